"""What latency is predicted from on a target that is not this machine."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from edgegen.latency import DeviceTable, MeasuredTable, Roofline
from edgegen.latency.clock import Timed
from edgegen.latency.grid import Grid, measure_grid
from edgegen.prediction import prediction_facts, predictor
from edgegen.progress import Silent
from edgegen.reach import latency_model
from edgegen.recipe import load_recipe
from edgegen.request import Request
from edgegen.spec import Budget, Precision
from edgegen.target import load_target

MADE_ON = {"target": "intel-n100", "backend": "openvino", "emulated": False, "threads": 0}


@dataclasses.dataclass
class Board:
    """A board on which every model takes a millisecond more than the one before."""

    in_turn: int = 8
    count: int = 0

    def fingerprint(self) -> dict[str, object]:
        return dict(MADE_ON)

    def seconds(self, models: Sequence[Timed]) -> list[float]:
        self.count += len(models)
        return [(self.count - len(models) + index + 1) * 1e-3 for index in range(len(models))]


def asked(tables: Path | None) -> Request:
    return Request(Path("a.pt"), load_target("intel-n100"), Budget(), load_recipe("balanced"), Path("out"), tables=tables)


def test_a_table_of_the_target_is_taken_before_its_profile(tmp_path: Path) -> None:
    fastest = load_target("intel-n100").precisions
    assert isinstance(predictor(asked(tmp_path), Precision.INT8), Roofline)
    assert prediction_facts(asked(tmp_path)) == prediction_facts(asked(None))
    table = MeasuredTable(tmp_path / "grid.json", Precision.INT8, cache=tmp_path, clock=Board())
    measure_grid(table, Grid(channels=(8,), sides=(16,)), Silent())
    assert Precision.INT8 in fastest and isinstance(latency_model(asked(tmp_path)), DeviceTable)
    assert isinstance(predictor(asked(None), Precision.INT8), Roofline)
    assert prediction_facts(asked(tmp_path)) != prediction_facts(asked(None))  # stages that predicted from the profile run again
