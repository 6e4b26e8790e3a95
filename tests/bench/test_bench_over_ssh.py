"""The same procedure on a board behind a real sshd: same pictures, and a lost link leaves a partial record."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sshd

from edgegen.bench import BenchPlan, measure_bundle
from edgegen.device.ssh import SshTransport
from edgegen.errors import DeviceError, LinkLostError
from edgegen.progress import Silent

SHORT = BenchPlan(threads=1, min_runs=64, min_seconds=0.05, cold_processes=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Server]:
    made = sshd.start_server(tmp_path_factory.mktemp("sshd"))
    yield made
    made.kill()


def test_a_board_gives_a_record_like_this_machine(server: sshd.Server, bundle: Path) -> None:
    board = SshTransport(server.address(python=sys.executable))
    here = measure_bundle(bundle, SHORT)
    there = measure_bundle(bundle, SHORT, transport=board, target_id="raspberry-pi-5")
    board.close()
    assert there.quality == here.quality and there.quality.passed
    assert there.latency_ms is not None and there.latency_ms.sustained.n >= 64 and there.memory.vm_hwm_bytes is not None
    assert (there.target.id, there.target.cpu, there.target.python) == ("raspberry-pi-5", here.target.cpu, here.target.python)
    assert sorted(p.name for p in server.board.iterdir()) == ["bundles", "run", "runtime"]


class Cutter(Silent):
    """Cuts the cable once the first fresh process has been timed."""

    def __init__(self, cut: Callable[[], None]) -> None:
        self._cut = cut

    def advance(self, count: int = 1, **facts: float) -> None:
        threading.Timer(0.2, self._cut).start()


def test_a_link_that_is_lost_meanwhile_leaves_a_partial_record_marked_invalid(
    server: sshd.Server, bundle: Path, tmp_path: Path
) -> None:
    cable = sshd.Cable(server.port)
    server.know(cable.port)
    board = SshTransport(server.address(port=cable.port, python=sys.executable))
    plan = BenchPlan(threads=1, min_runs=1, min_seconds=120.0, cold_processes=1)
    record = measure_bundle(bundle, plan, transport=board, out=tmp_path / "r.json", progress=Cutter(cable.cut))
    assert not record.validity.valid and "the link to ssh://127.0.0.1" in record.validity.reasons[0]
    assert record.quality.passed and record.latency_ms is None and (tmp_path / "r.json").is_file()
    board.close()
    again = SshTransport(server.address(python=sys.executable))
    assert measure_bundle(bundle, SHORT, transport=again).latency_ms is not None
    again.close()
    assert not os.path.lexists(server.board / "lock")


def test_a_link_that_is_lost_before_anything_is_known_is_an_error(server: sshd.Server, bundle: Path) -> None:
    cable = sshd.Cable(server.port)
    server.know(cable.port)
    board = SshTransport(server.address(port=cable.port, python=sys.executable))
    board.folder()
    cable.cut()
    with pytest.raises(LinkLostError):
        measure_bundle(bundle, SHORT, transport=board)
    board.close()


def test_a_board_without_a_python_that_fits_is_told(server: sshd.Server, bundle: Path) -> None:
    board = SshTransport(server.address(python="/nowhere/python"))
    with pytest.raises(DeviceError, match="has no Python >= 3.8"):
        measure_bundle(bundle, SHORT, transport=board)
    board.close()
