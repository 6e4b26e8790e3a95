"""The grid of layers: every kind over widths and resolutions, measured once."""

from pathlib import Path

from edgegen.latency import MeasuredTable
from edgegen.latency.grid import Grid, measure_grid
from edgegen.progress import Silent
from edgegen.spec import Precision

SMALL = Grid(channels=(8,), sides=(16,))


def test_the_grid_has_every_kind_of_layer_at_every_width_and_resolution() -> None:
    works = list(Grid().works())
    assert {work.kind for work in works} == {"conv", "transposed", "norm", "linear"}
    assert len(works) == len(set(works)) == 6 * 8 * 4 + 8
    assert any(work.groups > 1 for work in works) and any(work.stride == (2, 2) for work in works)


def test_a_second_measurement_of_the_grid_takes_all_from_the_cache(tmp_path: Path) -> None:
    for name, measured in (("one.json", True), ("two.json", False)):
        table = MeasuredTable(tmp_path / name, Precision.F32, threads=1, cache=tmp_path / "cache")
        measure_grid(table, SMALL, Silent())
        assert (table.facts()["measured_now"] > 0) is measured
    again = MeasuredTable(tmp_path / "two.json", Precision.F32, threads=1)
    measure_grid(again, SMALL, Silent())
    assert again.facts()["measured_now"] == again.facts()["from_earlier_runs"] == 0
