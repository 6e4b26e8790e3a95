"""What each back end will do with each layer is told before any long stage runs."""

from pathlib import Path

import pytest
import torch
from torch import nn

from edgegen.errors import ExportError
from edgegen.export.preflight import _RULES, Action, preflight, require_exportable
from edgegen.generator import Generator
from edgegen.graph import LAYERS, trace
from edgegen.resources import resource_folder
from edgegen.spec import Backend, ComponentSpec, Kind, Layout, TensorSpec
from edgegen.target import TargetProfile, list_targets, load_target, read_target

IMAGE = TensorSpec("image", Kind.IMAGE, (4, 8, 8), Layout.CHW, low=0.0, high=1.0)
SPEC = ComponentSpec("generator", (IMAGE,), (IMAGE,))
SMALLEST: dict[str, nn.Module] = {
    "InstanceNorm2d": nn.InstanceNorm2d(4),
    "ConvTranspose2d": nn.ConvTranspose2d(4, 4, 4, 2, 1),
    "ReflectionPad2d": nn.ReflectionPad2d(1),
    "ReplicationPad2d": nn.ReplicationPad2d(1),
    "PixelShuffle": nn.PixelShuffle(2),
    "LeakyReLU": nn.LeakyReLU(0.2),
    "AvgPool2d": nn.AvgPool2d(2),
    "GELU": nn.GELU(),
    "AdaptiveAvgPool2d": nn.AdaptiveAvgPool2d(1),
    "Tanh": nn.Tanh(),
    "Sigmoid": nn.Sigmoid(),
    "Upsample": nn.Upsample(scale_factor=2),
}
CASES = [(backend, kind) for backend, rules in _RULES.items() for kind in rules]


def generator_with(layer: nn.Module) -> Generator:
    return Generator(trace(nn.Sequential(nn.Conv2d(4, 4, 1), layer)), SPEC, "test", {}, {})


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> dict[Backend, TargetProfile]:
    """One profile per back end: a built-in one, or the host's with that back end moved to the front."""
    found = {profile.backend: profile for profile in reversed(list_targets())}
    text = (resource_folder("targets") / "host.toml").read_text(encoding="utf-8")
    for backend in set(Backend) - set(found):
        path: Path = tmp_path_factory.mktemp(backend.value) / "host.toml"
        path.write_text(text.replace('id = "openvino"', 'id = "moved"').replace(f'id = "{backend.value}"', 'id = "openvino"')
                        .replace('id = "moved"', f'id = "{backend.value}"'), encoding="utf-8")  # fmt: skip
        found[backend] = read_target(path)
    return found


@pytest.mark.parametrize(("backend", "kind"), CASES, ids=[f"{b.value} {k}" for b, k in CASES])
def test_every_rule_is_triggered_by_the_smallest_generator_with_its_layer(
    profiles: dict[Backend, TargetProfile], backend: Backend, kind: str
) -> None:
    (finding,) = preflight(generator_with(SMALLEST[kind]), profiles[backend])
    assert (finding.node, finding.kind) == ("_1", kind)
    assert (finding.action, finding.reason) == _RULES[backend][kind]


def test_every_rule_is_about_a_layer_of_the_vocabulary() -> None:
    known = {kind.__name__ for kind in LAYERS}
    assert {kind for _, kind in CASES} <= known


def test_every_back_end_has_rules() -> None:
    assert set(_RULES) == set(Backend)


@pytest.mark.parametrize("target", list_targets(), ids=lambda target: target.id)
def test_convolutions_and_relu_simply_run_everywhere(target: TargetProfile) -> None:
    assert preflight(generator_with(nn.ReLU()), target) == []


def test_findings_come_in_the_order_of_the_graph() -> None:
    net = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(4, 4, 3), nn.InstanceNorm2d(4), nn.LeakyReLU(0.2))
    found = preflight(Generator(trace(net), SPEC, "test", {}, {}), load_target("raspberry-pi-5"))
    assert [finding.node for finding in found] == ["_0", "_2", "_3"]


def test_a_refused_layer_stops_the_run_and_names_node_target_and_reason(profiles: dict[Backend, TargetProfile]) -> None:
    target = profiles[Backend.LITERT]
    with pytest.raises(ExportError) as caught:
        require_exportable(generator_with(nn.AdaptiveAvgPool2d(1)), target)
    assert all(word in caught.value.message for word in ("'_1'", "AdaptiveAvgPool2d", target.id, "no static form"))
    assert "edgegen inspect" in caught.value.hint


@pytest.mark.parametrize("action", [Action.REWRITTEN, Action.FLOAT])
def test_a_layer_that_is_rewritten_or_stays_float_does_not_stop_the_run(
    profiles: dict[Backend, TargetProfile], action: Action
) -> None:
    for backend, kind in CASES:
        if _RULES[backend][kind][0] is action:
            require_exportable(generator_with(SMALLEST[kind]), profiles[backend])


def test_preflight_leaves_the_generator_alone() -> None:
    generator = generator_with(nn.LeakyReLU(0.2))
    before, x = generator.module.code, torch.rand(1, 4, 8, 8)
    expected = generator.module(x)
    preflight(generator, load_target("raspberry-pi-5"))
    assert generator.module.code == before
    assert torch.equal(generator.module(x), expected)
