"""What each back end will do with each node is told before any long stage runs, from the op tables and nothing else."""

import dataclasses

import pytest
import torch
from torch import nn

from edgegen.errors import ExportError
from edgegen.export.node_settings import node_facts
from edgegen.export.preflight import Action, lowest_precision, preflight, preflight_all, require_exportable, tables_of
from edgegen.generator import Generator
from edgegen.graph import trace
from edgegen.op_table import load_op_table
from edgegen.spec import Backend, ComponentSpec, Kind, Layout, Precision, TensorSpec
from edgegen.target import TargetProfile, list_targets, load_target
from edgegen.target_schema import BackendSupport

IMAGE = TensorSpec("image", Kind.IMAGE, (4, 8, 8), Layout.CHW, low=0.0, high=1.0)
SPEC = ComponentSpec("generator", (IMAGE,), (IMAGE,))


class Functional(nn.Module):
    """The same operations as functions and methods."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
        x = torch.clamp(torch.tanh(x), 0, 1)
        n, channels, height, width = x.size(0), x.size(1), x.size(2), x.size(3)
        x = x.view(n, channels * 2, height // 2, width)
        return torch.cat([x, x.relu()], 1)


def generator_with(*layers: nn.Module) -> Generator:
    return Generator(trace(nn.Sequential(nn.Conv2d(4, 4, 1), *layers)), SPEC, "test", {}, {})


@pytest.fixture(scope="module")
def profiles() -> dict[Backend, TargetProfile]:
    """One profile per back end: the host's with that back end alone, and without the name of a table."""
    host, three = load_target("host"), (Precision.F32, Precision.F16, Precision.INT8)
    return {backend: dataclasses.replace(host, backends=(BackendSupport(backend, three),)) for backend in Backend}


def test_a_profile_that_names_no_table_gets_the_usual_one_of_its_back_end(profiles: dict[Backend, TargetProfile]) -> None:
    usual = {backend: [table.id for table in tables_of(profile)] for backend, profile in profiles.items()}
    assert usual == {
        Backend.OPENVINO: ["openvino-cpu"], Backend.LITERT: ["litert-cpu"], Backend.TENSORRT: ["tensorrt-10.3"],
        Backend.ONNXRUNTIME: ["onnxruntime"],
    }  # fmt: skip


@pytest.mark.parametrize("target", list_targets(), ids=lambda target: target.id)
def test_a_convolution_and_the_relu_behind_it_simply_run_everywhere(target: TargetProfile) -> None:
    assert preflight(generator_with(nn.ReLU()), target) == []


@pytest.mark.parametrize("target", list_targets(), ids=lambda target: target.id)
def test_every_node_is_told_with_its_row_and_its_evidence(target: TargetProfile) -> None:
    net = (nn.ReflectionPad2d(1), nn.Conv2d(4, 4, 3), nn.InstanceNorm2d(4), nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2))
    for precision in target.precisions:
        found = preflight_all(generator_with(*net), target, precision)
        assert [f.kind for f in found] == ["Conv2d", "ReflectionPad2d", "Conv2d", "InstanceNorm2d", "LeakyReLU", "Upsample"]
        assert all(f.row and f.table and f.evidence and f.action is not Action.UNKNOWN for f in found)


def test_findings_come_in_the_order_of_the_graph() -> None:
    net = (nn.ReflectionPad2d(1), nn.Conv2d(4, 4, 3), nn.InstanceNorm2d(4), nn.LeakyReLU(0.2))
    found = preflight(generator_with(*net), load_target("raspberry-pi-5"))
    assert [(f.node, f.action) for f in found] == [
        ("_1", Action.REWRITTEN), ("_3", Action.REWRITTEN), ("_4", Action.FLOAT),
    ]  # fmt: skip
    assert found[0].rewrite == "slices and concatenations"


def test_the_same_network_has_no_islands_in_float() -> None:
    net, host = generator_with(nn.InstanceNorm2d(4), nn.ReLU()), load_target("host")
    assert [f.action for f in preflight(net, host)] == [Action.FLOAT]
    assert preflight(net, host, Precision.F32) == []


def test_functions_and_methods_are_judged_as_the_layers_they_equal() -> None:
    facts = node_facts(trace(Functional()), SPEC)
    assert [node.op for node in facts] == ["ReflectionPad2d", "Tanh", "Clamp", "Reshape", "ReLU", "cat"]
    assert facts[2].settings["low"] == (0,) and facts[4].settings["after"] == ("Reshape",)


def test_the_strictest_of_several_tables_counts() -> None:
    generator = generator_with(nn.ConvTranspose2d(4, 4, 4, 2, 1))
    strict, usual = load_op_table("dla"), load_op_table("tensorrt-10.3")
    for tables in ((strict, usual), (usual, strict)):
        _, found = preflight_all(generator, load_target("jetson"), Precision.INT8, tables)
        assert (found.action, found.table, found.limit) == (Action.REFUSED, "dla", "padding must be 0")


@pytest.mark.parametrize(
    ("layer", "action"),
    [
        (nn.ConvTranspose2d(4, 4, 4, 2, 1), Action.NATIVE),
        (nn.ConvTranspose2d(4, 4, 3, 2, 1, 1), Action.REWRITTEN),
        (nn.ConvTranspose2d(4, 4, 4, 2, 1, groups=2), Action.REWRITTEN),
        (nn.Upsample(scale_factor=2), Action.REWRITTEN),
        (nn.Upsample(scale_factor=7), Action.NATIVE),
        (nn.AdaptiveAvgPool2d(1), Action.NATIVE),
        (nn.AdaptiveAvgPool2d(2), Action.FLOAT),
        (nn.AdaptiveAvgPool2d(3), Action.REFUSED),
    ],
    ids=["same", "other size", "grouped", "twice", "seven times", "pool to 1", "pool to 2", "pool to 3"],
)
def test_settings_decide_and_not_the_kind_alone(layer: nn.Module, action: Action) -> None:
    (found,) = [f for f in preflight_all(generator_with(layer), load_target("raspberry-pi-5")) if f.kind == type(layer).__name__]
    assert found.action is action


def test_a_refused_node_stops_the_run_and_names_node_target_and_reason(profiles: dict[Backend, TargetProfile]) -> None:
    target = profiles[Backend.LITERT]
    with pytest.raises(ExportError) as caught:
        require_exportable(generator_with(nn.AdaptiveAvgPool2d(3)), target)
    assert all(word in caught.value.message for word in ("'_1'", "AdaptiveAvgPool2d", target.id, "no static form"))
    assert "edgegen inspect" in caught.value.hint


@pytest.mark.parametrize("target", list_targets(), ids=lambda target: target.id)
def test_what_is_rewritten_or_stays_float_does_not_stop_the_run(target: TargetProfile) -> None:
    net = (nn.ReflectionPad2d(1), nn.InstanceNorm2d(4), nn.LeakyReLU(0.2), nn.ConvTranspose2d(4, 4, 3, 2, 1, 1), nn.Tanh())
    require_exportable(generator_with(*net), target)


def test_one_refused_precision_does_not_stop_a_run_that_has_others(profiles: dict[Backend, TargetProfile]) -> None:
    generator, target = generator_with(nn.Conv2d(4, 4, 3)), load_target("jetson")
    (refused, _) = preflight_all(generator, target, Precision.INT8_DYNAMIC)
    assert refused.action is Action.REFUSED
    require_exportable(generator, target)


def test_the_lowest_precision_is_the_one_judged() -> None:
    assert lowest_precision(load_target("raspberry-pi-5")) is Precision.INT8
    assert lowest_precision(load_target("ar")) is Precision.F16


def test_preflight_leaves_the_generator_alone() -> None:
    generator = generator_with(nn.LeakyReLU(0.2))
    before, x = generator.module.code, torch.rand(1, 4, 8, 8)
    expected = generator.module(x)
    preflight(generator, load_target("raspberry-pi-5"))
    assert generator.module.code == before
    assert torch.equal(generator.module(x), expected)
