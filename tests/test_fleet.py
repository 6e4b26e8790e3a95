"""Several devices at once: one that fails stops no other, and one table and one page hold all."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import small_bundles
import sshd

from edgegen.bench import BenchPlan, read_record
from edgegen.device import Member, parse_address
from edgegen.errors import DeviceError
from edgegen.fleet import PAGE_NAME, board_rows, failed, file_name, measure_fleet

PLAN = BenchPlan(threads=1, min_runs=64, min_seconds=0.05, cold_processes=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet")
    return small_bundles.style(folder / "artifact").write(folder / "bundle")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Server]:
    made = sshd.start_server(tmp_path_factory.mktemp("sshd"))
    yield made
    made.kill()


def broken(folder: Path) -> Member:
    """A board on which Python is too old."""
    (folder / "old.json").write_text(json.dumps({"answers": [{"stdout": "python 3 6 1 /usr/bin/python3\nheld\n"}]}))
    return Member("attic", parse_address(f"fake:{folder / 'old.json'}"), "raspberry-pi-4")


def test_this_machine_a_board_behind_ssh_and_a_broken_one_give_one_table_and_one_page(
    server: sshd.Server, bundle: Path, tmp_path: Path
) -> None:
    board = Member("kitchen", server.address(python=sys.executable), "raspberry-pi-5")
    members = (broken(tmp_path), Member("local:", parse_address("local:"), "host"), board)
    outcomes = measure_fleet(bundle, PLAN, members, out=tmp_path / "out")
    assert [outcome.good for outcome in outcomes] == [False, True, True]
    assert outcomes[0].failure is not None and "has no Python >= 3.8" in outcomes[0].failure.message
    assert read_record(tmp_path / "out" / "kitchen.json").target.id == "raspberry-pi-5"
    assert read_record(tmp_path / "out" / "local.json").target.id == "host"
    rows = board_rows(outcomes)
    assert rows[-1].name == "attic" and {row.name for row in rows[:2]} == {"kitchen", "local:"}
    assert rows[0].p50_ms is not None and rows[1].p50_ms is not None and rows[0].p50_ms <= rows[1].p50_ms
    page = (tmp_path / "out" / PAGE_NAME).read_text()
    assert "2 of 3 measured" in page and "kitchen" in page and "has no Python" in page
    told = failed(outcomes)
    assert isinstance(told, DeviceError) and "1 of 3 devices gave no times: attic" in told.message


def test_one_device_that_fails_is_told_as_it_failed(bundle: Path, tmp_path: Path) -> None:
    outcomes = measure_fleet(bundle, PLAN, [broken(tmp_path)])
    assert failed(outcomes) is outcomes[0].failure
    assert board_rows(outcomes)[0].p50_ms is None


@pytest.mark.parametrize(
    ("name", "stem"),
    [("kitchen", "kitchen"), ("ssh://pi@kitchen:22", "pi-kitchen-22"), ("fake:../x", "fake-..-x")],
)
def test_a_name_becomes_a_file_name_without_surprises(name: str, stem: str) -> None:
    assert file_name(name) == stem
