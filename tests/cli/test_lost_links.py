"""A link that breaks after some processes were timed: the record keeps them, and the command says that it is not whole."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import small_bundles
from typer.testing import CliRunner

from edgegen.bench import read_record
from edgegen.cli.main import app
from edgegen.errors import DeviceError, LinkLostError

SHORT = ("--threads", "1", "--min-runs", "128", "--min-seconds", "0.05", "--processes", "2")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lost")
    return small_bundles.style(folder / "artifact").write(folder / "bundle")


@pytest.fixture(scope="module")
def board(bundle: Path) -> Path:
    """A board that says what this machine does, and is gone after the first process that timed."""

    def said(command: str, *options: str) -> str:
        line = [sys.executable, "-m", "edgegen.runtime", command, *options, "--threads", "1", str(bundle)]
        return subprocess.run(line, capture_output=True, text=True, check=True, timeout=120).stdout

    timed = said("time", "--min-runs", "64", "--min-seconds", "0", "--burst-seconds", "0", "--hz", "0")
    answers: list[dict[str, Any]] = [
        {"when": " check ", "stdout": said("check", "--json")}, {"when": " release ", "stdout": "{}"},
        {"when": " cool ", "stdout": '{"zones_c": {}}'}, {"when": " time ", "stdout": timed},
        {"when": " time ", "link_lost": True},
        {"stdout": "python 3 11 1 /usr/bin/python3\nheld\n"},
    ]  # fmt: skip
    script = bundle.parent / "board.json"
    script.write_text(json.dumps({"answers": answers}))
    return script


def test_a_partial_record_is_kept_and_invalid_and_the_command_fails_with_the_lost_link(
    bundle: Path, board: Path, tmp_path: Path
) -> None:
    line = ["bench", str(bundle), "--device", f"fake:{board}", *SHORT, "--out", str(tmp_path / "r.json")]
    done = CliRunner().invoke(app, line)
    assert isinstance(done.exception, LinkLostError) and done.exception.exit_code == 14, done.output
    assert done.exception.message == f"the link to fake:{board} was lost"
    assert done.exception.hint == "the record holds what was measured before"
    record = read_record(tmp_path / "r.json")
    assert record.is_partial and record.latency_ms is not None and record.latency_ms.sustained.n == 64
    assert not record.validity.valid and record.validity.reasons[0] == f"the link to fake:{board} was lost"


def test_a_fleet_counts_a_device_that_was_lost_half_way_as_not_measured(bundle: Path, board: Path, tmp_path: Path) -> None:
    line = ["bench", str(bundle), "--device", "local:", "--device", f"fake:{board}", *SHORT, "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, line)
    assert isinstance(done.exception, DeviceError), done.output
    assert done.exception.message == f"1 of 2 devices were not measured to the end: fake:{board}"
    page = (tmp_path / "out" / "devices.html").read_text()
    assert "1 of 2 measured" in page and "✕ partial" in page
