"""What latency is predicted from on a target that is not this machine."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from edgegen.latency import DeviceTable, MeasuredTable, Roofline
from edgegen.latency.grid import Grid, measure_grid
from edgegen.latency.snippets import Snippet
from edgegen.prediction import prediction_facts, predictor
from edgegen.progress import Silent
from edgegen.reach import latency_model
from edgegen.recipe import load_recipe
from edgegen.request import Request
from edgegen.spec import Budget, Precision
from edgegen.target import load_target, with_backend

MADE_ON = {"target": "intel-n100", "backend": "openvino", "emulated": False, "threads": 0}
ON_A_PI = {"target": "raspberry-pi-5", "backend": "litert", "emulated": False, "threads": 0}


@dataclasses.dataclass
class Board:
    """A board on which every model takes a millisecond more than the one before."""

    made_on: dict[str, object]
    in_turn: int = 8
    count: int = 0

    def fingerprint(self) -> dict[str, object]:
        return self.made_on

    def seconds(self, snippets: Sequence[Snippet]) -> list[float]:
        self.count += len(snippets)
        return [(self.count - len(snippets) + index + 1) * 1e-3 for index in range(len(snippets))]


def asked(tables: Path | None, target: str = "intel-n100") -> Request:
    return Request(Path("a.pt"), load_target(target), Budget(), load_recipe("balanced"), Path("out"), tables=tables)


def test_a_table_of_the_target_is_taken_before_its_profile(tmp_path: Path) -> None:
    fastest = load_target("intel-n100").precisions
    assert isinstance(predictor(asked(tmp_path), Precision.INT8), Roofline)
    assert prediction_facts(asked(tmp_path)) == prediction_facts(asked(None))
    table = MeasuredTable(tmp_path / "grid.json", Precision.INT8, cache=tmp_path, clock=Board(MADE_ON))
    measure_grid(table, Grid(channels=(8,), sides=(16,)), Silent())
    assert Precision.INT8 in fastest and isinstance(latency_model(asked(tmp_path)), DeviceTable)
    assert isinstance(predictor(asked(None), Precision.INT8), Roofline)
    assert prediction_facts(asked(tmp_path)) != prediction_facts(asked(None))  # stages that predicted from the profile run again


def test_a_table_in_litert_is_taken_by_the_targets_that_run_it_and_by_no_other_back_end(tmp_path: Path) -> None:
    clock = Board(ON_A_PI)
    table = MeasuredTable(tmp_path / "grid.json", Precision.INT8, cache=tmp_path, clock=clock)
    grid = Grid(channels=(8,), sides=(16,))
    measure_grid(table, grid, Silent())
    found = predictor(asked(tmp_path, "raspberry-pi-5"), Precision.INT8)
    assert isinstance(found, DeviceTable) and found.layers == len(list(grid.works()))
    assert not any("shuffle" in key for key in (tmp_path / "grid.json").read_text().splitlines())  # LiteRT has one form of it
    assert isinstance(predictor(asked(tmp_path, "raspberry-pi-4"), Precision.INT8), Roofline)
    in_openvino = dataclasses.replace(asked(tmp_path), target=with_backend(load_target("raspberry-pi-5"), "openvino"))
    assert isinstance(predictor(in_openvino, Precision.INT8), Roofline)
