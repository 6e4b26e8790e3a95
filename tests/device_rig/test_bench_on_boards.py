"""A compressed generator is measured here and on a board in one go: pushed, checked, timed, its record brought back."""

from __future__ import annotations

from pathlib import Path

import pipeline_runs
import pytest

from device_rig.boards import VirtualBoard
from edgegen.bench import BenchPlan
from edgegen.device import choose_members
from edgegen.errors import DeviceError
from edgegen.fleet import measure_fleet

pytestmark = pytest.mark.slow
SHORT = BenchPlan(threads=1, min_runs=4, min_seconds=0.0, processes=1, cold_processes=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny generator as int8 .tflite for a Raspberry Pi 5, made without training."""
    folder = tmp_path_factory.mktemp("compressed")
    pipeline_runs.write_latent_checkpoint(folder)
    recipe = pipeline_runs.write_recipe(folder, trains=False)
    pipeline_runs.run(folder, target="raspberry-pi-5", recipe=recipe)
    return folder / "out" / "bundle"


def test_this_machine_and_a_board_give_one_table_and_the_record_of_the_board_says_that_it_is_emulated(
    debian12: VirtualBoard, bundle: Path, tmp_path: Path
) -> None:
    members = choose_members(["local:", debian12.url], tmp_path / "devices.toml")
    here, there = measure_fleet(bundle, SHORT, members, out=tmp_path)
    assert here.record is not None, here.failure
    assert there.record is not None, there.failure
    assert (here.record.target.machine, there.record.target.machine) == ("x86_64", "aarch64")
    assert (here.record.target.emulated, there.record.target.emulated) == (False, True)
    assert there.record.target.board == "Raspberry Pi 5 Model B Rev 1.0"
    assert not there.record.validity.valid
    assert "the processor is emulated: its times mean nothing" in there.record.validity.reasons
    assert there.record.quality.passed
    # int8 of LiteRT is bit for bit the same on both, so the pictures are as far from the float student on both
    assert there.record.quality.psnr_db_min == here.record.quality.psnr_db_min
    page = (tmp_path / "devices.html").read_text(encoding="utf-8")
    assert all(text in page for text in ("local:", f"127.0.0.1:{debian12.port}", "Raspberry Pi 5"))


def test_a_board_without_python_fails_alone_and_says_what_it_lacks(busybox: VirtualBoard, bundle: Path, tmp_path: Path) -> None:
    (outcome,) = measure_fleet(bundle, SHORT, choose_members([busybox.url], tmp_path / "devices.toml"))
    assert isinstance(outcome.failure, DeviceError)
    assert "has no Python >= 3.8" in outcome.failure.message
