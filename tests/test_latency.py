"""Works and the models that need no measurement: what a layer counts, and the roofline's arithmetic."""

import dataclasses
from pathlib import Path

import pytest

from edgegen.latency import LayerWork, MeasuredTable, Pass, Roofline, estimate
from edgegen.latency.work import sub_pixel
from edgegen.spec import Precision

WORK = LayerWork("conv", 16, 32, (3, 3), (1, 1), 1, 24, 40)
TRANSPOSED = LayerWork("transposed", 8, 4, (4, 4), (2, 2), 1, 10, 10)
NORM = Pass(("norm", "relu"), 24, 40, to_int8=True)


def wide(work: LayerWork, channels: int) -> LayerWork:
    return dataclasses.replace(work, inputs=channels, outputs=channels)


@pytest.mark.parametrize(
    ("work", "macs", "values"),
    [
        pytest.param(WORK, 9 * 16 * 32 * 960, (16 + 32) * 960 + 9 * 16 * 32, id="conv"),
        pytest.param(dataclasses.replace(WORK, stride=(2, 2)), 9 * 16 * 32 * 960, (4 * 16 + 32) * 960 + 9 * 16 * 32, id="stride"),
        pytest.param(dataclasses.replace(WORK, groups=16), 9 * 32 * 960, (16 + 32) * 960 + 9 * 32, id="grouped"),
        pytest.param(TRANSPOSED, 16 * 8 * 4 * 25, 8 * 25 + 4 * 100 + 16 * 32, id="transposed"),
        pytest.param(LayerWork("linear", 100, 50, (1, 1), (1, 1), 1, 1, 1), 5000, 150 + 5000, id="linear"),
        pytest.param(LayerWork("norm", 8, 8, (1, 1), (1, 1), 1, 4, 4), 0, 2 * 8 * 16, id="norm"),
        pytest.param(LayerWork("output", 3, 3, (1, 1), (1, 1), 1, 4, 4), 0, 2 * 3 * 16, id="output"),
    ],
)
def test_the_work_of_a_layer_is_that_counted_by_hand(work: LayerWork, macs: int, values: int) -> None:
    assert (work.macs, work.values_moved) == (macs, values)


@pytest.mark.parametrize(
    ("ops", "values"),
    [
        pytest.param(("norm", "relu"), (100, 100), id="norm"),
        pytest.param(("add",), (200, 100), id="addition of two"),
        pytest.param(("upsample nearest 2 3",), (100, 600), id="upsample"),
        pytest.param(("max_pool 3 3 2 2",), (100, 25), id="pool"),
    ],
)
def test_a_pass_reads_and_writes_what_its_operation_says(ops: tuple[str, ...], values: tuple[int, int]) -> None:
    assert Pass(ops, 5, 5, (1, 4)).values(16) == values


def test_the_roofline_is_bound_by_compute_where_bandwidth_is_endless() -> None:
    assert Roofline(1e9, 1e30, Precision.INT8, 1).seconds(WORK) == pytest.approx(WORK.macs / 1e9)


@pytest.mark.parametrize(("precision", "bytes_per_value"), [(Precision.F32, 4), (Precision.F16, 2), (Precision.INT8, 1)])
def test_the_roofline_is_bound_by_memory_where_compute_is_endless(precision: Precision, bytes_per_value: int) -> None:
    assert Roofline(1e30, 1e9, precision, 1).seconds(WORK) == pytest.approx(bytes_per_value * WORK.values_moved / 1e9)


def test_the_roofline_pads_channels_to_the_tile_of_the_hardware() -> None:
    model = Roofline(1e9, 1e30, Precision.INT8, 32)
    assert model.seconds(wide(WORK, 17)) == model.seconds(wide(WORK, 32))
    assert model.seconds(wide(WORK, 33)) == model.seconds(wide(WORK, 64))


def test_the_roofline_does_not_pad_the_arithmetic_of_grouped_layers() -> None:
    depthwise = dataclasses.replace(wide(WORK, 17), groups=17)
    assert Roofline(1e9, 1e30, Precision.INT8, 32).seconds(depthwise) == pytest.approx(depthwise.macs / 1e9)


def test_the_roofline_adds_what_passes_move_in_the_types_they_have() -> None:
    with_norm, values = dataclasses.replace(WORK, passes=(NORM,)), 32 * 24 * 40
    for precision, bytes_moved in ((Precision.F32, 8 * values), (Precision.INT8, 5 * values)):
        model = Roofline(1e30, 1e9, precision, 1)
        assert model.seconds(with_norm) - model.seconds(WORK) == pytest.approx(bytes_moved / 1e9)


def test_the_roofline_counts_nothing_for_handing_a_picture_over() -> None:
    assert Roofline(1.0, 1.0, Precision.F32, 1).seconds(LayerWork("input", 3, 3, (1, 1), (1, 1), 1, 64, 64)) == 0


def test_an_estimate_is_the_sum_of_its_layers() -> None:
    model = Roofline(1e9, 1e9, Precision.F32, 1)
    assert estimate(model, [WORK, WORK]) == pytest.approx(2 * model.seconds(WORK))


def test_estimates_say_where_they_come_from(tmp_path: Path) -> None:
    assert Roofline(1.0, 1.0, Precision.F32, 1).label == "predicted"
    assert MeasuredTable(tmp_path / "table.json", Precision.F32).label == "measured"


def test_a_transposed_convolution_taken_apart_keeps_its_picture_its_arithmetic_and_what_follows() -> None:
    work = dataclasses.replace(
        TRANSPOSED, height=128, width=128, fused=("relu",), to_int8=True, passes=(Pass(("concat",), 128, 128),)
    )
    form = sub_pixel(work)
    assert form is not None
    shuffle, crop, concat = form.passes
    assert (form.kind, form.outputs, form.kernel, form.height) == ("conv", 16, (2, 2), 65)
    assert form.macs == pytest.approx(work.macs, rel=0.05)  # one more row and column
    assert shuffle.ops == ("shuffle 2 2",) and crop.ops == ("crop 1 1 1 1", "relu") and crop.to_int8 and not shuffle.to_int8
    assert crop.channels(form.outputs) == concat.channels(form.outputs) == 4


def test_a_transposed_convolution_on_one_pixel_taken_apart_is_a_linear_layer() -> None:
    work = LayerWork("transposed", 100, 64, (4, 4), (1, 1), 1, 4, 4, fused=("relu",))
    form = sub_pixel(work)
    assert form is not None and (form.kind, form.outputs, form.macs) == ("linear", 1024, 102400)
    assert form.passes[0].channels(form.outputs) == 64


@pytest.mark.parametrize("work", [WORK, dataclasses.replace(TRANSPOSED, groups=2)], ids=["conv", "grouped"])
def test_other_layers_have_one_form(work: LayerWork) -> None:
    assert sub_pixel(work) is None
