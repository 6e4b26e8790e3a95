"""`edgegen targets` and `edgegen cp` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from edgegen.cli.cp import cp
from edgegen.cli.targets import targets
from edgegen.errors import StorageError, TargetError
from edgegen.target import list_targets


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    made.command()(targets)
    made.command()(cp)
    return made


def run(app: typer.Typer, *arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, list(arguments))


def test_targets_lists_every_device_with_its_back_end(app: typer.Typer) -> None:
    printed = run(app, "targets").stdout
    for word in ("host", "measured", "raspberry-pi-5", "litert", "jetson-orin-nano", "tensorrt", "predicted", "automotive"):
        assert word in printed


def test_targets_of_a_scene(app: typer.Typer) -> None:
    def listed(scene: str) -> list[str]:
        return [profile["id"] for profile in json.loads(run(app, "targets", "--scene", scene, "--json").stdout)]

    assert listed("ar") == ["snapdragon-8-gen3", "snapdragon-xr2-gen2"]
    assert listed("automotive") == ["atom-automotive", "drive-agx-orin", "r-car-v4h", "sa8295p", "tda4vm"]
    assert {"intel-n100", "raspberry-pi-5", "core-ultra-npu", "coral", "imx93"} < set(listed("smart-home"))


def test_one_target_shows_its_numbers_with_evidence(app: typer.Typer) -> None:
    printed = run(app, "targets", "jetson-orin-nano").stdout
    row = next(line for line in printed.splitlines() if "memory.gb_s" in line)
    assert "102.4" in row
    assert "seen" in row
    assert "jetson-super" in row
    assert any("reachable int8" in line and "3300 GMAC/s" in line for line in printed.splitlines())


def test_a_device_without_a_peak_is_not_called_predicted(app: typer.Typer) -> None:
    rows = {line.split()[0]: line for line in run(app, "targets").stdout.splitlines() if line.strip()}
    assert "unknown" in rows["imx93"] and "predicted" in rows["intel-n100"] and "measured" in rows["host"]


def test_the_list_fits_a_terminal_of_80_columns_with_every_name_whole(app: typer.Typer) -> None:
    printed = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["targets"]).stdout
    assert max(len(line) for line in printed.splitlines()) <= 80 and "…" not in printed
    assert {line.split()[0] for line in printed.splitlines() if line.strip()} >= {p.id for p in list_targets()}
    assert "also called" in printed


def test_an_alias_says_which_frame_budget_it_sets(app: typer.Typer) -> None:
    assert "4.17 ms" in run(app, "targets", "ar").output


def test_json_leaves_unknown_numbers_out_instead_of_writing_zero(app: typer.Typer) -> None:
    profile = json.loads(run(app, "targets", "intel-n100", "--json").stdout)
    assert "bytes" not in profile["memory"]
    assert profile["memory"]["gb_s"] == {"value": 38.4, "evidence": "S", "source": "intel-n100"}


@pytest.mark.parametrize("arguments", [("nano",), ("--scene", "atuomotive"), ("host", "--scene", "ar")])
def test_a_wrong_question_is_a_target_error_with_a_hint(app: typer.Typer, arguments: tuple[str, ...]) -> None:
    failure = run(app, "targets", *arguments).exception
    assert isinstance(failure, TargetError)
    assert failure.hint


def test_cp_copies_once_and_says_where(app: typer.Typer, tmp_path: Path) -> None:
    assert run(app, "cp", "recipes/balanced", str(tmp_path)).stdout.strip() == str(tmp_path / "balanced.toml")
    assert isinstance(run(app, "cp", "recipes/balanced", str(tmp_path)).exception, StorageError)
