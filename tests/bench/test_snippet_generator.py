"""Snippets as generators: every kind of layer and pass can be drawn, and gives a pixel of what it should."""

import dataclasses

import pytest

from edgegen.bench.snippet_artifacts import require_timed
from edgegen.bench.snippet_generator import snippet_generator
from edgegen.errors import RecipeError
from edgegen.graph import check_vocabulary, example_inputs, layer_costs
from edgegen.latency import LayerWork, Pass
from edgegen.latency.grid import Grid
from edgegen.latency.snippets import BINARY, ELEMENTWISE, FEED, Layer, LinearSource, Part, PassOver, Source
from edgegen.spec import Backend

CONV = LayerWork("conv", 8, 12, (3, 3), (1, 1), 1, 12, 20, ("relu",), to_int8=True)
MOVES = {"norm": 8, "concat": 16, "quantise": 8, "shuffle 2 2": 2, "shuffle 2 1": 4, "unshuffle 2": 32, "pad reflect 1 1 2 2": 8,
         "pad edge 1 0 0 1": 8, "pad constant 1 1 1 1": 8, "crop 1 0 1 0": 8, "upsample nearest 2 2": 8, "upsample linear 2 2": 8,
         "max_pool 3 3 2 2": 8, "avg_pool 2 2 2 2": 8}  # fmt: skip


def results(part: Part) -> list[tuple[int, ...]]:
    generator = snippet_generator(part)
    check_vocabulary(generator.module)
    given = generator.module(*example_inputs(generator.spec))
    shapes = [tuple(value.shape) for value in (given if isinstance(given, tuple) else (given,))]
    assert shapes == [(1, *spec.shape) for spec in generator.spec.outputs]
    return shapes


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize(
    "work",
    [
        *Grid(channels=(8,), sides=(16,)).works(),
        dataclasses.replace(CONV, kernel=(2, 4)),
        LayerWork("transposed", 8, 4, (3, 3), (2, 2), 2, 10, 10, signed=True),
        LayerWork("transposed", 8, 4, (4, 4), (1, 1), 1, 4, 4),
        LayerWork("input", 10, 10, (1, 1), (1, 1), 1, 1, 1),
        LayerWork("input", 3, 3, (1, 1), (1, 1), 1, 16, 16),
        LayerWork("output", 3, 3, (1, 1), (1, 1), 1, 16, 16),
    ],
    ids=lambda work: f"{work.kind} {work.kernel[0]} {work.groups} {work.height}" if isinstance(work, LayerWork) else None,
)
def test_every_kind_of_layer_can_be_drawn_and_does_the_work_that_it_stands_for(work: LayerWork, int8: bool) -> None:
    part = Layer(work, int8)
    assert results(part)
    generator = snippet_generator(part)
    costs = layer_costs(generator.module, example_inputs(generator.spec))
    if work.weighted and work.kernel != (4, 4):  # a transposed one with a border computes a few rows that it cuts off
        assert work.macs in [cost.macs for cost in costs]


@pytest.mark.parametrize("op", [*ELEMENTWISE, *BINARY, *MOVES])
@pytest.mark.parametrize("quantised", [False, True])
def test_every_pass_can_be_drawn_and_its_tensor_is_read_by_something_else_too(op: str, quantised: bool) -> None:
    item = Pass((op, "relu"), 12, 20, from_int8=quantised, to_int8=quantised)
    channels = FEED if quantised else MOVES.get(op, 8)
    assert results(PassOver(item, 8, quantised)) == [(1, channels, 1, 1), (1, FEED if quantised else 8, 1, 1)]


def test_an_int8_tensor_is_read_by_a_layer_and_a_float_one_is_cut() -> None:
    assert results(Source(8, 12, 20, "int8")) == results(Source(8, 12, 20, "signed")) == [(1, FEED, 1, 1)]
    assert results(Source(8, 12, 20, "float")) == [(1, 8, 1, 1)]
    assert results(LinearSource(32, int8=True)) == [(1, FEED)]


def test_what_engines_are_built_for_is_not_timed_layer_by_layer() -> None:
    with pytest.raises(RecipeError, match="not timed one by one in tensorrt: its engines are built on the board") as refused:
        require_timed(Backend.TENSORRT)
    assert "--backend onnxruntime" in str(refused.value.hint)
