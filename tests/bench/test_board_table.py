"""The grid of layers measured on a board behind a real sshd, and what plans take from it."""

import dataclasses
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sshd

from edgegen.bench.board_table import measure_board_grid
from edgegen.device import Completed, FakeTransport
from edgegen.device.ssh import SshTransport
from edgegen.errors import DeviceError, LinkLostError, RecipeError
from edgegen.latency import LayerWork, MeasuredTable, Pass, Roofline, estimate, find_device_table
from edgegen.latency.grid import Grid
from edgegen.progress import Silent
from edgegen.spec import Backend, Precision

SMALL = Grid(channels=(8, 16), sides=(16,))
BASE = Roofline(1e9, 1e9, Precision.F32, 1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Server]:
    made = sshd.start_server(tmp_path_factory.mktemp("sshd"))
    yield made
    made.kill()


def grid_of(board: SshTransport | FakeTransport, folder: Path, progress: Silent | None = None) -> MeasuredTable:
    settings = {"precision": Precision.F32, "threads": 1, "grid": SMALL, "progress": progress or Silent()}
    return measure_board_grid(board, "intel-n100", folder, **settings)


class Cutter(Silent):
    """Cuts the cable once the first layers have been measured."""

    def __init__(self, cut: Callable[[], None]) -> None:
        self._cut = cut

    def advance(self, count: int = 1, **facts: float) -> None:
        threading.Timer(0.2, self._cut).start()


def test_a_link_that_is_lost_keeps_what_was_measured_and_the_same_call_goes_on(server: sshd.Server, tmp_path: Path) -> None:
    cable = sshd.Cable(server.port)
    server.know(cable.port)
    board = SshTransport(server.address(port=cable.port, python=sys.executable))
    with pytest.raises(LinkLostError) as lost:
        grid_of(board, tmp_path, Cutter(cable.cut))
    board.close()
    assert lost.value.hint == f"what was measured is kept in {tmp_path}: the same command goes on from there"
    again = SshTransport(server.address(python=sys.executable))
    table = grid_of(again, tmp_path)
    facts = table.facts()
    assert 0 < facts["measured_now"] < facts["lines"]
    assert (facts["target"], facts["backend"], facts["threads"], facts["emulated"]) == ("intel-n100", "openvino", 1, False)
    assert all(table.known(work) is not None for work in SMALL.works())
    assert grid_of(again, tmp_path).facts()["measured_now"] == 0
    assert not list(server.board.glob("snippets-*"))
    again.close()


@pytest.fixture(scope="module")
def measured(server: sshd.Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    board = SshTransport(server.address(python=sys.executable))
    grid_of(board, folder)
    board.close()
    return folder


def test_a_plan_takes_the_table_of_its_target_and_back_end_and_no_other(measured: Path) -> None:
    assert find_device_table(measured, "intel-n100", Backend.OPENVINO, Precision.F32, base=BASE) is not None
    assert find_device_table(measured, "raspberry-pi-5", Backend.OPENVINO, Precision.F32, base=BASE) is None
    assert find_device_table(measured, "intel-n100", Backend.LITERT, Precision.F32, base=BASE) is None
    assert find_device_table(measured, "intel-n100", Backend.OPENVINO, Precision.INT8, base=BASE) is None


def test_a_table_of_an_emulated_board_is_never_taken(measured: Path, tmp_path: Path) -> None:
    (path,) = measured.glob("latency-*.json")
    document = json.loads(path.read_text())
    document["made_on"]["emulated"] = True
    (tmp_path / path.name).write_text(json.dumps(document))
    assert find_device_table(tmp_path, "intel-n100", Backend.OPENVINO, Precision.F32, base=BASE) is None


def test_what_was_measured_counts_and_what_was_not_is_scaled_from_the_most_similar_layer(measured: Path) -> None:
    found = find_device_table(measured, "intel-n100", Backend.OPENVINO, Precision.F32, base=BASE)
    assert found is not None and found.label == "predicted"
    layer = next(work for work in SMALL.works() if work.kind == "conv" and work.kernel == (3, 3))
    (path,) = measured.glob("latency-*.json")
    assert found.seconds(layer) > 0 and found.layers == len(list(SMALL.works()))
    unseen = dataclasses.replace(layer, height=17)
    expected = found.seconds(layer) * estimate(BASE, [unseen]) / estimate(BASE, [layer])
    assert found.seconds(unseen) == pytest.approx(expected)
    with_pass = dataclasses.replace(layer, passes=(Pass(("pad reflect 1 1 1 1",), 16, 16),))
    assert found.seconds(with_pass) > found.seconds(layer)
    assert found.seconds(LayerWork("conv", 3, 8, (9, 9), (1, 1), 1, 64, 64)) > 0


@dataclasses.dataclass(frozen=True)
class OneConvolution(Grid):
    """The smallest grid: a model more takes its converter seconds."""

    def works(self) -> Iterator[LayerWork]:
        yield CONV


CONV = LayerWork("conv", 8, 8, (3, 3), (1, 1), 1, 16, 16, fused=("relu",), to_int8=True)


@pytest.mark.slow
def test_layers_are_measured_in_the_back_end_that_the_target_runs_and_its_plans_take_them(
    server: sshd.Server, tmp_path: Path
) -> None:
    board, backend, precision = SshTransport(server.address(python=sys.executable)), Backend.ONNXRUNTIME, Precision.INT8
    settings = {"precision": precision, "threads": 1, "grid": OneConvolution(), "progress": Silent(), "backend": backend}
    facts = measure_board_grid(board, "raspberry-pi-4", tmp_path, **settings).facts()
    assert (facts["backend"], facts["target"], facts["measured_now"]) == (backend.value, "raspberry-pi-4", 3)
    assert measure_board_grid(board, "raspberry-pi-4", tmp_path, **settings).facts()["measured_now"] == 0
    board.close()
    found = find_device_table(tmp_path, "raspberry-pi-4", backend, precision, base=BASE)
    assert found is not None
    assert found.seconds(CONV) > 0
    assert find_device_table(tmp_path, "raspberry-pi-4", Backend.OPENVINO, precision, base=BASE) is None


@pytest.mark.parametrize(
    ("target", "backend", "refused"),
    [
        ("imx8m-plus", Backend.OPENVINO, "imx8m-plus does not run openvino, so nothing would take such a table"),
        ("jetson-orin-nano", None, "layers are not timed one by one in tensorrt: its engines are built on the board"),
    ],
)
def test_a_back_end_that_layers_cannot_be_timed_in_or_that_the_target_never_runs_is_refused(
    tmp_path: Path, target: str, backend: Backend | None, refused: str
) -> None:
    board = FakeTransport(Completed(0, "held\npython 3 11 1 /usr/bin/python3\n"))
    settings = {"precision": Precision.F32, "threads": 1, "progress": Silent(), "grid": SMALL, "backend": backend}
    with pytest.raises(RecipeError, match=refused):
        measure_board_grid(board, target, tmp_path, **settings)


def test_what_is_no_measurement_is_told(tmp_path: Path) -> None:
    answers = ["held\n", "python 3 11 1 /usr/bin/python3\n", '{"ns": [1], "ran": {}}\n']
    board = FakeTransport(*(Completed(0, answer) for answer in answers))
    with pytest.raises(DeviceError, match="printed is no measurement"):
        grid_of(board, tmp_path)
