"""`edgegen compress` as a user runs it: what is on stdout, what is on stderr, and how it ends."""

import json
from pathlib import Path

import pipeline_runs
import pytest
from pipeline_runs import call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the checkpoint and a recipe that trains nothing."""
    pipeline_runs.write_latent_checkpoint(tmp_path)
    pipeline_runs.write_recipe(tmp_path, trains=False)
    return tmp_path


def words(folder: Path, *more: object) -> list[object]:
    """The command line of a run in `folder`."""
    options = ["--target", "intel-n100", "--recipe", folder / "tiny-export.toml", "--out", folder / "out"]
    return ["compress", folder / "faces.pt", *options, *more]


@pytest.mark.slow
def test_json_is_one_document_on_stdout_and_notes_go_to_stderr(folder: Path) -> None:
    done = call(*words(folder, "--json"))
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout, parse_constant=pytest.fail)
    assert summary["verdict"] == "met"
    assert Path(summary["bundle"]) == folder / "out" / "bundle"
    assert "load: faces.pt" in done.stderr and "export: openvino" in done.stderr


@pytest.mark.slow
def test_without_json_the_verdict_and_the_bundle_are_named(folder: Path) -> None:
    done = call(*words(folder))
    assert done.returncode == 0, done.stderr
    assert "verdict: met\n" in done.stdout
    assert f"bundle:  {folder / 'out' / 'bundle'}\n" in done.stdout
    assert "report:" not in done.stdout  # this recipe writes none
    assert "openvino/int8" in done.stdout and "(predicted)" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "verdict"),
    [(("--min-ssim", "1.0"), "quality-missed"), (("--max-size", "1KiB"), "budget-missed")],
    ids=lambda x: str(x),
)
def test_what_is_missed_exits_with_4_says_why_and_still_has_a_bundle(folder: Path, limit: tuple[str, str], verdict: str) -> None:
    done = call(*words(folder, *limit))
    assert done.returncode == 4, done.stderr
    assert f"verdict: {verdict}\n" in done.stdout
    assert "below the floor" in done.stdout or "over the budget" in done.stdout
    assert (folder / "out" / "bundle" / "manifest.json").is_file()


def test_until_says_where_it_stopped(folder: Path) -> None:
    done = call(*words(folder, "--until", "rewrite"))
    assert (done.returncode, done.stdout) == (0, "stopped after rewrite; --resume goes on\n")
    again = call(*words(folder, "--until", "rewrite", "--resume", "--json"))
    assert json.loads(again.stdout) == {"stopped_after": "rewrite", "out": str(folder / "out")}


@pytest.mark.slow
def test_pictures_in_and_pictures_out_with_the_users_own_class(folder: Path) -> None:
    pipeline_runs.write_picture_checkpoint(folder)
    pipeline_runs.write_photos(folder / "photos", 12)
    own = ["--arch", f"{folder / 'net.py'}:Net", "--trust", "--resolution", "32x24", "--data", folder / "photos"]
    where = ["--target", "intel-n100", "--recipe", folder / "tiny-export.toml", "--out", folder / "out"]
    done = call("compress", folder / "photos.pt", *own, *where, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    manifest = json.loads((Path(summary["bundle"]) / "manifest.json").read_text())
    assert summary["verdict"] == "met" and manifest["teacher"]["trusted"] is True
