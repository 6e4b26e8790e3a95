"""The graph: what tracing keeps and refuses, what layers cost, and a copy without pickle that computes the same."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgegen.errors import CheckpointError
from edgegen.generator import Generator, StageRecord, load_generator, save_generator
from edgegen.graph import (
    FUNCTIONS,
    clean,
    count_macs,
    count_params,
    example_inputs,
    graph_from_json,
    graph_to_json,
    layer_costs,
    layer_of,
    replace_layer,
    trace,
)
from edgegen.layers import Clamp, Crop2d, DepthToSpace, PixelsIn, PixelsOut, Scale
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec

IMAGE = TensorSpec("image", Kind.IMAGE, (3, 8, 8), Layout.CHW, low=-1.0, high=1.0)
SPEC = ComponentSpec("generator", (IMAGE,), (dataclasses.replace(IMAGE, name="picture"),))


def kinds(module: torch.fx.GraphModule) -> list[str]:
    return [type(layer).__name__ for node in module.graph.nodes if (layer := layer_of(module, node)) is not None]


def restored(module: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Return the graph after a trip through JSON text, with the same weights."""
    copy = graph_from_json(json.loads(json.dumps(graph_to_json(module))))
    copy.load_state_dict(module.state_dict())
    return copy


def test_tracing_drops_dropout_and_identities() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.Identity(), nn.ReLU(), nn.Dropout2d(0.5))
    assert kinds(trace(net)) == ["Conv2d", "ReLU"]


def test_tracing_leaves_the_module_in_eval_mode() -> None:
    assert not trace(nn.Sequential(nn.BatchNorm2d(3)).train()).training


class Sorts(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sort(x).values


class Decides(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.mean() > 0 else -x


class Rolls(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.roll(1)


@pytest.mark.parametrize(
    ("net", "node", "kind"),
    [
        pytest.param(nn.Sequential(nn.Conv2d(3, 3, 1), nn.LSTM(3, 3)), "_1", "LSTM", id="layer"),
        pytest.param(Sorts(), "sort", "sort", id="function"),
        pytest.param(Rolls(), "roll", "roll", id="method"),
    ],
)
def test_an_operation_outside_the_vocabulary_is_named_with_its_node(net: nn.Module, node: str, kind: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        trace(net)
    assert f"'{node}'" in caught.value.message
    assert kind in caught.value.message


def test_control_flow_on_values_cannot_be_traced_and_the_class_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"Decides\.forward cannot be traced"):
        trace(Decides())


@pytest.mark.parametrize(
    ("layer", "source", "macs"),
    [
        pytest.param(nn.Conv2d(3, 8, 3, padding=1), (3, 10, 10), 10 * 10 * 8 * 3 * 9, id="same padding"),
        pytest.param(nn.Conv2d(4, 6, 3, stride=2), (4, 9, 9), 4 * 4 * 6 * 4 * 9, id="stride without padding"),
        pytest.param(nn.Conv2d(8, 8, 3, padding=1, groups=8), (8, 5, 7), 5 * 7 * 8 * 9, id="depthwise"),
        pytest.param(nn.Conv2d(8, 12, (1, 3), groups=4), (8, 6, 6), 6 * 4 * 12 * 2 * 3, id="grouped, oblong kernel"),
        pytest.param(nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1), (6, 5, 5), 5 * 5 * 6 * 4 * 16, id="transposed"),
        pytest.param(nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2), (6, 5, 5), 5 * 5 * 6 * 2 * 9, id="transposed, grouped"),
        pytest.param(nn.Linear(10, 7), (10,), 70, id="linear"),
        pytest.param(nn.ReLU(), (3, 4, 4), 0, id="elementwise work is not counted"),
    ],
)
def test_multiply_accumulates_are_those_counted_by_hand(layer: nn.Module, source: tuple[int, ...], macs: int) -> None:
    (cost,) = layer_costs(trace(nn.Sequential(layer)), (torch.zeros(1, *source),))
    assert cost.macs == macs
    assert cost.input_shape == (1, *source)
    assert cost.params == sum(p.numel() for p in layer.parameters())


def test_costs_add_up_over_a_network() -> None:
    module = trace(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1)))
    assert count_macs(module, SPEC) == 64 * (3 * 4 * 9 + 4 * 3)
    assert count_params(module) == 3 * 4 * 9 + 4 + 4 * 3 + 3


def test_a_layer_is_replaced_by_a_chain_that_computes_the_same() -> None:
    module = trace(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Hardtanh(-2.0, 2.0)))
    x = torch.randn(1, 3, 5, 5)
    before = module(x)
    node = next(n for n in module.graph.nodes if type(layer_of(module, n)) is nn.Hardtanh)
    replace_layer(module, node, [Clamp(-2.0, 2.0), Scale(1.0, 0.0)])
    clean(module)
    assert kinds(module) == ["Conv2d", "Clamp", "Scale"]
    assert torch.equal(module(x), before)


def followers(c: int) -> list[list[nn.Module]]:
    """Return what may follow a convolution of `c` channels: sequences that keep the shape."""
    return [
        [nn.BatchNorm2d(c)], [nn.InstanceNorm2d(c, affine=True)], [nn.InstanceNorm2d(c)], [nn.LeakyReLU(0.2)], [nn.PReLU(c)],
        [nn.Softplus(2.0)], [nn.Hardtanh(-0.5, 0.5)], [nn.PixelUnshuffle(2), nn.PixelShuffle(2)],
        [nn.ReflectionPad2d((1, 1, 2, 0)), Crop2d(2, 0, 1, 1)], [nn.Upsample(scale_factor=2, mode="nearest"), nn.MaxPool2d(2)],
        [nn.ConvTranspose2d(c, c, 3, 1, 1)], [nn.ConstantPad2d(1, 0.5), nn.AvgPool2d(3, 1)], [nn.ELU(), Scale(0.5, 0.1)],
    ]  # fmt: skip


@st.composite
def nets(draw: st.DrawFn) -> nn.Module:
    """Draw a small network of conv, norm, activation and resampling layers on 3-channel images of 8x8, with a skip or without."""
    channels, layers = 3, []
    for _ in range(draw(st.integers(1, 4))):
        groups = draw(st.sampled_from([1, channels]))
        width = channels * draw(st.integers(1, 2)) if groups > 1 else draw(st.integers(1, 6))
        kernel = draw(st.sampled_from([1, 3]))
        mode = draw(st.sampled_from(["zeros", "reflect"]))
        bias = draw(st.booleans())
        layers.append(nn.Conv2d(channels, width, kernel, padding=kernel // 2, groups=groups, bias=bias, padding_mode=mode))
        channels = width
        layers += draw(st.sampled_from(followers(channels)))
    return WithSkip(nn.Sequential(*layers)) if draw(st.booleans()) else nn.Sequential(*layers)


class WithSkip(nn.Module):
    """Uses functions, methods, slices and keyword arguments besides layers."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(self.body(x)) * 0.5
        return torch.cat([y, nn.functional.interpolate(x, size=(8, 8), mode="nearest")[:, :1]], dim=1).clamp(-1.0, max=1.0)


@settings(max_examples=40, deadline=None)
@given(net=nets(), seed=st.integers(0, 1000))
def test_a_graph_computes_the_same_bits_after_a_trip_through_json(net: nn.Module, seed: int) -> None:
    module = trace(net)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        assert torch.equal(restored(module)(x), module(x))


def test_pixels_and_depth_to_space_survive_the_trip() -> None:
    module = trace(nn.Sequential(PixelsIn(), nn.Conv2d(3, 12, 1), DepthToSpace(1, 4), PixelsOut(0.5, 10.0)))
    x = torch.randint(0, 256, (1, 4, 4, 3), dtype=torch.uint8)
    assert torch.equal(restored(module)(x), module(x))


def test_a_stored_graph_with_an_unknown_layer_is_refused() -> None:
    document = graph_to_json(trace(nn.Sequential(nn.ReLU())))
    document["layers"]["0"]["kind"] = "Evil"
    with pytest.raises(CheckpointError, match="unknown kind Evil"):
        graph_from_json(document)


def test_a_stored_graph_with_an_unknown_function_is_refused() -> None:
    document = graph_to_json(trace(WithSkip(nn.Sequential(nn.ReLU()))))
    node = next(n for n in document["nodes"] if n["op"] == "call_function")
    node["target"] = "os.system"
    assert "os.system" not in FUNCTIONS
    with pytest.raises(CheckpointError, match=r"unknown function os\.system"):
        graph_from_json(document)


def test_a_saved_generator_is_read_back_with_its_lineage(tmp_path) -> None:
    made = Generator(trace(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh())), SPEC, "test", {"width": 3}, {"file": "a.pt"})
    made = made.with_record(StageRecord("prune", {"speedup": 2.0}, 0.5, {"macs": 10}))
    save_generator(made, tmp_path)
    back = load_generator(tmp_path)
    (x,) = example_inputs(SPEC)
    assert torch.equal(back.module(x), made.module(x))
    assert (back.spec, back.family, back.lineage) == (made.spec, made.family, made.lineage)


def test_a_copied_generator_does_not_share_weights() -> None:
    made = Generator(trace(nn.Sequential(nn.Conv2d(3, 3, 1))), SPEC, "test", {}, {})
    copy = made.copy()
    with torch.no_grad():
        next(copy.module.parameters()).zero_()
    assert next(made.module.parameters()).abs().sum() > 0


def test_example_inputs_stay_in_the_range_of_the_spec_and_repeat() -> None:
    (x,), (again,) = example_inputs(SPEC, seed=3), example_inputs(SPEC, seed=3)
    assert torch.equal(x, again)
    assert x.min() >= -1.0 and x.max() <= 1.0
    assert x.shape == (1, 3, 8, 8)


@pytest.mark.parametrize("place", ["target", "kwargs", "op"])
def test_a_stored_graph_whose_names_would_become_code_is_refused_and_nothing_runs(place: str, tmp_path: Path) -> None:
    generator = Generator(trace(nn.Sequential(nn.ReLU())), ComponentSpec("g", (), ()), "f", {}, {})
    save_generator(generator, tmp_path)
    document = json.loads((tmp_path / "generator.json").read_text())
    trap = tmp_path / "ran"
    evil = f"x=open({str(trap)!r}, 'w')"
    node = document["graph"]["nodes"][0 if place == "target" else 1]
    node[place] = {"dict": {evil: 1}} if place == "kwargs" else evil
    (tmp_path / "generator.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="where a name should stand|unknown operation"):
        load_generator(tmp_path)
    assert not trap.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"graph": {"layers": [], "nodes": 1}}', '{"graph": 1e999}'])
def test_what_is_no_stored_generator_is_refused_with_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "generator.json").write_text(text)
    with pytest.raises(CheckpointError, match="holds no generator that edgegen wrote"):
        load_generator(tmp_path)
