"""kill -9 at any moment of training, then the same call again: the student is that of a training nobody killed, to the byte."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from train_until_killed import SETTINGS, STEPS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def start(folder: Path, setting: str, *moment: object, threads: int = 1) -> subprocess.Popen[str]:
    """Start or continue the training of `folder`."""
    words = [sys.executable, str(Path(__file__).with_name("train_until_killed.py")), str(folder), setting, *map(str, moment)]
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads)},
    )  # fmt: skip


def finish(folder: Path, setting: str, *, threads: int = 1) -> bytes:
    """Train to the end and return the bytes of the student."""
    _, errors = (child := start(folder, setting, threads=threads)).communicate(timeout=300)
    assert child.returncode == 0, errors
    return (folder / "student" / "weights.safetensors").read_bytes()


def die(folder: Path, setting: str, *moment: object) -> None:
    """Train until the process kills itself at `moment`."""
    _, errors = (child := start(folder, setting, *moment)).communicate(timeout=300)
    assert child.returncode == -signal.SIGKILL, errors


def kill_after(folder: Path, setting: str, delay_s: float) -> bool:
    """Kill a training from outside, `delay_s` after its first step; return whether it was still at it."""
    child = start(folder, setting)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(delay_s)
    child.kill()
    child.communicate(timeout=60)
    return child.returncode == -signal.SIGKILL


@pytest.fixture(scope="module", params=list(SETTINGS))
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    """A setting, and the student of an uninterrupted training."""
    return request.param, finish(tmp_path_factory.mktemp("whole"), request.param)


def test_killed_at_fixed_points_one_after_the_other(whole: tuple[str, bytes], tmp_path: Path) -> None:
    setting, expected = whole
    for moment in (("written", 1), ("placed", 2), ("step", 4), ("written", 2), ("step", 17)):
        die(tmp_path, setting, *moment)
    assert finish(tmp_path, setting) == expected


def test_killed_from_outside_at_random_moments(whole: tuple[str, bytes], tmp_path: Path) -> None:
    setting, expected = whole
    draw = random.Random(f"kills {setting}")
    killed = [kill_after(tmp_path, setting, draw.uniform(0.0, 0.15)) for _ in range(4)]
    assert any(killed)
    assert finish(tmp_path, setting) == expected


def test_resumed_with_another_number_of_threads(tmp_path: Path) -> None:
    expected = finish(tmp_path / "whole", "features")
    die(tmp_path / "cut", "features", "step", STEPS // 2)
    assert finish(tmp_path / "cut", "features", threads=2) == expected
