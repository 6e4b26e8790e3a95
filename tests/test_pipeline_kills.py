"""kill -9 in every stage, then --resume: the result is that of a run nobody killed, to the bit."""

import re
import shutil
from pathlib import Path

import pipeline_runs
import pytest
import torch
from pipeline_runs import CHECKPOINT_EVERY, KILLED, KILLED_IN_STAGE, SIGNALLED_IN_TRAINING, STEPS, call, run, stage

pytestmark = pytest.mark.slow

_UNNAMED = re.compile(rb"<net name=\"Model\d+\" ")  # OpenVINO numbers the models of a process; no run-time reads the name
STAGED = ("rewrite", "prune", "distill", "export", "verify", "bundle", "bench")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint, the recipe and an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    pipeline_runs.write_latent_checkpoint(folder)
    pipeline_runs.write_recipe(folder)
    run(folder)
    return folder


@pytest.fixture
def before(whole: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of the run as it stood when the stage of this test began."""
    folder = Path(shutil.copytree(whole, tmp_path / "copy"))
    for name in STAGED[STAGED.index(request.param) :]:
        shutil.rmtree(stage(folder / "out", name))
    shutil.rmtree(folder / "out" / "bundle")
    return folder


def words(folder: Path) -> list[object]:
    """The command line of the run in `folder`."""
    where = ["--target", "intel-n100", "--out", folder / "out", "--recipe", folder / "tiny.toml"]
    return ["compress", folder / "faces.pt", *where, "--effort", "quick", "--resume"]


def result(folder: Path) -> dict[str, bytes]:
    """Everything of a run that its seed decides: the students, and all files of the bundle's artifact and cases."""
    out = folder / "out"
    files = [stage(out, name) / "weights.safetensors" for name in ("rewrite", "prune", "distill")]
    files += [path for part in ("artifacts", "cases") for path in (out / "bundle" / part).rglob("*") if path.is_file()]
    return {path.relative_to(out).as_posix(): _UNNAMED.sub(b"<net ", path.read_bytes()) for path in files}


@pytest.mark.parametrize(("before", "name"), [(name, name) for name in STAGED], indirect=["before"], ids=STAGED)
def test_killed_when_a_stage_has_written_all_but_its_name_the_run_goes_on_to_the_same_result(
    whole: Path, before: Path, name: str
) -> None:
    killed = call(name, *words(before), driver=KILLED_IN_STAGE)
    assert killed.returncode == KILLED, killed.stderr
    assert [path.name.split("-")[1] for path in (before / "out" / "stages").glob("*.part")] == [name]
    assert not (before / "out" / "bundle").exists()
    run(before, resume=True)
    assert result(before) == result(whole)
    assert not list((before / "out" / "stages").glob("*.part"))


@pytest.mark.parametrize("before", ["distill"], indirect=True)
def test_killed_in_the_middle_of_training_it_goes_on_from_the_last_stored_step(whole: Path, before: Path) -> None:
    killed = call("SIGKILL", 3, *words(before), driver=SIGNALLED_IN_TRAINING)
    assert killed.returncode == KILLED, killed.stderr
    (state,) = (before / "out" / "stages").glob("*.part/distill.training")
    reached = torch.load(state, weights_only=True)["state"]["step"]
    assert 0 < reached == 2 * CHECKPOINT_EVERY < STEPS
    run(before, resume=True)
    assert result(before) == result(whole)


@pytest.mark.parametrize("before", ["distill"], indirect=True)
def test_ctrl_c_in_training_ends_with_one_sentence_and_resume_goes_on_to_the_same_result(whole: Path, before: Path) -> None:
    ended = call("SIGINT", 3, *words(before), driver=SIGNALLED_IN_TRAINING)
    assert ended.returncode == 130
    assert ended.stderr.splitlines()[-1] == "interrupted; run the same command with --resume to continue"
    assert "Traceback" not in ended.stderr and ended.stdout == ""
    again = call(*words(before))
    assert again.returncode == 0, again.stderr
    assert result(before) == result(whole)
