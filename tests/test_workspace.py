"""A run's folder: what is finished stays, what is not leaves no trace that looks finished, and equal work is done once."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from edgegen.errors import RecipeError, StorageError
from edgegen.workspace import Workspace, storage_errors


class Stage:
    """Writes one file and counts how often it was asked to."""

    def __init__(self, text: str = "done") -> None:
        self.text, self.calls = text, 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "result.txt").write_text(self.text)


def run(
    out: Path, *, resume: bool = False, redo_from: str | None = None, seed: int = 0, **stages: Callable[[Path], None]
) -> Workspace:
    """Run rewrite and prune (whichever is given), each with its own settings, and return the workspace."""
    work = Workspace(out, resume=resume, redo_from=redo_from)
    work.begin({"seed": seed})
    for name, make in stages.items():
        work.stage(name, {"of": name}, make)
    return work


def names(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "stages").iterdir())


def test_a_finished_stage_is_not_run_again(tmp_path: Path) -> None:
    first, second = Stage(), Stage()
    run(tmp_path, rewrite=first)
    work = run(tmp_path, resume=True, rewrite=second)
    assert (first.calls, second.calls) == (1, 0)
    assert (work.finished("rewrite") / "result.txt").read_text() == "done"


@pytest.mark.parametrize("death", [KeyboardInterrupt, RuntimeError])
def test_a_stage_that_dies_in_the_middle_leaves_no_finished_folder(tmp_path: Path, death: type[BaseException]) -> None:
    def dies(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise death

    with pytest.raises(death):
        run(tmp_path, rewrite=Stage(), prune=dies)
    assert [name.endswith(".part") for name in names(tmp_path)] == [False, True]


def test_a_stage_that_died_goes_on_with_what_it_had(tmp_path: Path) -> None:
    def dies(folder: Path) -> None:
        (folder / "step-200").write_text("checkpoint")
        raise KeyboardInterrupt

    def goes_on(folder: Path) -> None:
        assert (folder / "step-200").read_text() == "checkpoint"
        (folder / "result.txt").write_text("done")

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, prune=dies)
    folder = run(tmp_path, resume=True, prune=goes_on).finished("prune")
    assert names(tmp_path) == [folder.name]


def test_other_settings_or_another_seed_run_again_and_so_does_all_that_follows(tmp_path: Path) -> None:
    run(tmp_path, rewrite=Stage(), prune=Stage())
    rewrite, prune = Stage(), Stage()
    run(tmp_path, resume=True, seed=1, rewrite=rewrite, prune=prune)
    assert (rewrite.calls, prune.calls) == (1, 1)


def test_a_change_in_one_stage_leaves_the_stages_before_it_alone(tmp_path: Path) -> None:
    first, changed = Stage(), Stage()
    for speedup, make in ((2.0, Stage()), (3.0, changed)):
        work = Workspace(tmp_path, resume=True)
        work.begin({})
        work.stage("rewrite", {}, first)
        work.stage("prune", {"speedup": speedup}, make)
    assert (first.calls, changed.calls) == (1, 1)


def test_redo_from_a_stage_runs_it_and_what_follows_only(tmp_path: Path) -> None:
    run(tmp_path, rewrite=Stage(), prune=Stage("old"), distill=Stage("old"))
    rewrite, prune, distill = Stage(), Stage("new"), Stage("new")
    work = run(tmp_path, redo_from="prune", rewrite=rewrite, prune=prune, distill=distill)
    assert (rewrite.calls, prune.calls, distill.calls) == (0, 1, 1)
    assert (work.finished("distill") / "result.txt").read_text() == "new"


def test_a_folder_with_a_run_is_refused_without_resume(tmp_path: Path) -> None:
    run(tmp_path, rewrite=Stage())
    with pytest.raises(RecipeError) as caught:
        run(tmp_path)
    assert str(tmp_path) in caught.value.message
    assert "--resume" in caught.value.hint


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=["disk full", "over quota"])
def test_a_full_disk_is_a_storage_error_and_the_run_can_go_on(tmp_path: Path, number: int) -> None:
    def fills_the_disk(folder: Path) -> None:
        raise OSError(number, "no space left on device", str(folder / "weights"))

    with pytest.raises(StorageError) as caught:
        run(tmp_path, rewrite=fills_the_disk)
    assert caught.value.exit_code == 12
    assert "--resume" in caught.value.hint
    again = Stage()
    run(tmp_path, resume=True, rewrite=again)
    assert again.calls == 1


def test_a_really_full_device_is_a_storage_error() -> None:
    with pytest.raises(StorageError, match="is full"), storage_errors(Path("/dev")), open("/dev/full", "w") as full:
        full.write("x")
        full.flush()


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        Workspace(tmp_path / "file" / "out", resume=False)
    assert "--out" in caught.value.hint


def test_other_operating_system_errors_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), storage_errors(tmp_path):
        (tmp_path / "nothing").read_text()
