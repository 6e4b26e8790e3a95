"""Waiting for a device to be as cool as at rest, and what other processes take of its cores meanwhile."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from system_tree import write_tree

from edgegen.runtime.cooling import wait_until_cool, zones_c
from edgegen.runtime.process_facts import core_times
from edgegen.runtime.time_bundle import foreign_share

ZONE = "/sys/class/thermal/thermal_zone0"


def tree(folder: Path, milli_c: int) -> str:
    return str(write_tree(folder, {f"{ZONE}/type": "soc", f"{ZONE}/temp": milli_c}))


def test_the_wait_ends_when_the_zone_is_near_its_rest_or_the_time_is_over(tmp_path: Path) -> None:
    root, now = tree(tmp_path, 60_000), [60_000]

    def cool_down(_: float) -> None:
        now[0] -= 4_000
        (tmp_path / ZONE.lstrip("/") / "temp").write_text(f"{now[0]}\n")

    assert zones_c(root) == {"soc": 60.0}
    assert wait_until_cool(root, {"soc": 45.0}, 20.0, sleep_s=cool_down) == {"waited_s": 3.0, "above_c": 3.0}
    assert wait_until_cool(root, {"soc": 20.0}, 1.5, sleep_s=cool_down) == {"waited_s": 1.5, "above_c": 20.0}
    assert wait_until_cool(root, {"gpu": 20.0}, 600.0) == {"waited_s": 0.0, "above_c": None}


def test_the_command_tells_the_rest_and_waits(tmp_path: Path) -> None:
    root = tree(tmp_path, 41_500)

    def cool(*options: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "edgegen.runtime", "cool", "--sensor-root", root, *options]
        return subprocess.run(line, capture_output=True, text=True, timeout=60)

    assert json.loads(cool().stdout) == {"zones_c": {"soc": 41.5}}
    assert json.loads(cool("--rest", '{"soc": 40}', "--seconds", "5").stdout) == {"waited_s": 0.0, "above_c": 1.5}
    assert cool("--rest", '{"soc": "warm"}').returncode == 10


STAT = "cpu  100 0 50 800 10 0 5 5 0 0\ncpu0 100 0 50 800 10 0 5 5 0 0\nintr 1\n"


def test_what_others_take_of_the_cores_is_all_work_less_that_of_this_process(tmp_path: Path) -> None:
    root = str(write_tree(tmp_path, {"/proc/stat": STAT}))
    assert core_times(root) == (160, 970)
    share = foreign_share(root)
    (tmp_path / "proc/stat").write_text(STAT.replace("100 0 50 800", "600 0 50 1300"))
    assert share() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("text", ["", "cpu x\n", "cpu  50 800 0100 0 10 \n", "cpu  1 2 3\n", "intr 1\n"])
def test_times_of_cores_that_cannot_be_read_are_unknown(text: str, tmp_path: Path) -> None:
    root = str(write_tree(tmp_path, {"/proc/stat": text}))
    assert core_times(root) is None and foreign_share(root)() is None
