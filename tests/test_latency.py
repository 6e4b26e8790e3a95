"""Latency estimates: the roofline's arithmetic, and a table measured in OpenVINO that is remembered."""

import dataclasses
import json
from pathlib import Path

import pytest

from edgegen.latency import LayerWork, MeasuredTable, Roofline, estimate
from edgegen.spec import Precision

WORK = LayerWork("conv", 16, 32, (3, 3), (1, 1), 1, 24, 40)
TRANSPOSED = LayerWork("transposed", 8, 4, (4, 4), (2, 2), 1, 10, 10)


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
    ],
)
def test_the_work_of_a_layer_is_that_counted_by_hand(work: LayerWork, macs: int, values: int) -> None:
    assert (work.macs, work.values_moved) == (macs, values)


def test_a_norm_moves_values_but_multiplies_nothing() -> None:
    assert LayerWork("norm", 8, 8, (1, 1), (1, 1), 1, 4, 4).macs == 0


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


def test_an_estimate_is_the_sum_of_its_layers() -> None:
    model = Roofline(1e9, 1e9, Precision.F32, 1)
    assert estimate(model, [WORK, WORK]) == pytest.approx(2 * model.seconds(WORK))


def test_estimates_say_where_they_come_from(tmp_path: Path) -> None:
    assert Roofline(1.0, 1.0, Precision.F32, 1).label == "predicted"
    assert MeasuredTable(tmp_path / "table.json", Precision.F32).label == "measured"


def test_a_narrower_layer_never_costs_more_than_a_wider_one_that_was_measured(tmp_path: Path) -> None:
    table = MeasuredTable(tmp_path / "table.json", Precision.F32, threads=1)
    widths = (24, 16, 8)
    seconds = [table.seconds(wide(WORK, width)) for width in widths]
    assert seconds == sorted(seconds, reverse=True)
    assert all(value > 0 for value in seconds)


def test_int8_costs_at_most_what_f32_costs_in_the_same_table(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    floats = MeasuredTable(path, Precision.F32, threads=1)
    slow = floats.seconds(WORK)
    floats.save()
    assert MeasuredTable(path, Precision.INT8, threads=1).seconds(WORK) <= slow


def test_a_norm_costs_the_same_in_int8_because_it_stays_in_float(tmp_path: Path) -> None:
    norm = LayerWork("norm", 16, 16, (1, 1), (1, 1), 1, 32, 32)
    path = tmp_path / "table.json"
    floats = MeasuredTable(path, Precision.F32, threads=1)
    expected = floats.seconds(norm)
    floats.save()
    assert MeasuredTable(path, Precision.INT8, threads=1).seconds(norm) == expected


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(dataclasses.replace(WORK, stride=(2, 2)), id="stride"),
        pytest.param(dataclasses.replace(WORK, groups=16), id="grouped"),
        pytest.param(TRANSPOSED, id="transposed"),
        pytest.param(LayerWork("linear", 64, 32, (1, 1), (1, 1), 1, 1, 1), id="linear"),
        pytest.param(LayerWork("conv", 4, 4, (1, 1), (1, 1), 1, 1, 1), id="one pixel"),
    ],
)
def test_every_kind_of_layer_can_be_measured(tmp_path: Path, work: LayerWork) -> None:
    assert MeasuredTable(tmp_path / "table.json", Precision.F32, threads=1).seconds(work) > 0


def test_a_saved_table_is_believed_and_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    first = MeasuredTable(path, Precision.F32, threads=1)
    first.seconds(WORK)
    first.save()
    document = json.loads(path.read_text())
    document["seconds"] = {key: 1.0 if "16>32" in key else value for key, value in document["seconds"].items()}
    path.write_text(json.dumps(document))
    assert MeasuredTable(path, Precision.F32, threads=1).seconds(WORK) == pytest.approx(1.0, abs=0.1)


def test_a_table_that_was_interrupted_keeps_what_it_has_and_measures_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    first = MeasuredTable(path, Precision.F32, threads=1)
    first.seconds(WORK)
    first.save()
    known = json.loads(path.read_text())["seconds"]
    second = MeasuredTable(path, Precision.F32, threads=1)
    second.seconds(wide(WORK, 8))
    second.save()
    grown = json.loads(path.read_text())["seconds"]
    assert grown.items() > known.items()


def test_a_table_of_another_format_is_measured_anew(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"format": "something/9", "seconds": {}}))
    assert MeasuredTable(path, Precision.F32, threads=1).seconds(WORK) > 0
