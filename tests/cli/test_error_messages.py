"""Everything a user can get wrong ends in one sentence that names it, a hint and a documented exit code; never in a traceback."""

import dataclasses
import pickle
import shutil
import subprocess
from pathlib import Path

import pipeline_runs
import pytest
import torch
from pipeline_runs import call

from edgegen.errors import StorageError
from edgegen.workspace import Workspace, storage_errors

_BLOCKING = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "litert_torch":
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Both checkpoints, the classes, the recipes and good photos."""
    pipeline_runs.write_latent_checkpoint(tmp_path)
    pipeline_runs.write_picture_checkpoint(tmp_path)
    pipeline_runs.write_recipe(tmp_path)
    pipeline_runs.write_recipe(tmp_path, trains=False)
    pipeline_runs.write_photos(tmp_path / "photos", 10)
    return tmp_path


@dataclasses.dataclass(frozen=True)
class Told:
    """What a failing command said."""

    sentence: str
    hint: str


def refused(done: subprocess.CompletedProcess[str], code: int) -> Told:
    """Check the form of a failure and return its words."""
    lines = done.stderr.splitlines()
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert sum(line.startswith("error: ") for line in lines) == 1, done.stderr
    assert lines[-2].startswith("error: ") and lines[-1].startswith("hint: "), done.stderr
    return Told(lines[-2].removeprefix("error: "), lines[-1].removeprefix("hint: "))


def latents(folder: Path, *more: object) -> list[object]:
    """A command line for the checkpoint that needs no data."""
    return ["compress", folder / "faces.pt", "--recipe", folder / "tiny.toml", "--out", folder / "out", *more]


def pictures(folder: Path, *more: object, net: str = "Net") -> list[object]:
    """A command line for the checkpoint that takes pictures."""
    own = ["--arch", f"{folder / 'net.py'}:{net}", "--trust", "--resolution", "32x32"]
    return ["compress", folder / "photos.pt", *own, "--recipe", folder / "tiny.toml", "--out", folder / "out", *more]


@pytest.mark.parametrize(
    ("options", "code", "sentence", "hint"),
    [
        pytest.param(["--target", "jetson-orin-nona"], 5, "'jetson-orin-nona'", "'jetson-orin-nano'", id="unknown target"),
        pytest.param(["--latency", "33ms", "--fps", "30"], 6, "both --latency and --fps", "keep one", id="latency and fps"),
        pytest.param(["--recipe", "balancd"], 6, "'balancd'", "'balanced'", id="unknown recipe"),
        pytest.param(["--until", "destill"], 6, "'destill'", "'distill'", id="unknown stage for --until"),
        pytest.param(["--from", "exprt"], 6, "'exprt'", "'export'", id="unknown stage for --from"),
        pytest.param(
            ["--resolution", "256"], 3, "draws 32x32 pictures", "leave --resolution out", id="size of a fixed generator"
        ),
        pytest.param(["--resolution", "256by256"], 6, "'256by256'", "256x256", id="no resolution"),
        pytest.param(["--max-size", "4MB"], 6, "'4MB'", "4MiB", id="no size"),
    ],
)
def test_a_wrong_option_is_named_with_the_way_out(folder: Path, options: list[str], code: int, sentence: str, hint: str) -> None:
    told = refused(call(*latents(folder, *options)), code)
    assert sentence in told.sentence and hint in told.hint
    assert not (folder / "out").exists()


def test_a_missing_checkpoint_is_named_with_the_nearest_file(folder: Path) -> None:
    told = refused(call("compress", folder / "fases.pt", "--out", folder / "out"), 3)
    assert "fases.pt does not exist" in told.sentence and "'faces.pt'" in told.hint


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95], ids=["empty", "a third", "almost whole"])
def test_a_truncated_checkpoint_is_named(folder: Path, share: float) -> None:
    whole = (folder / "faces.pt").read_bytes()
    (folder / "faces.pt").write_bytes(whole[: int(len(whole) * share)])
    told = refused(call(*latents(folder)), 3)
    assert "faces.pt" in told.sentence and "again" in told.hint


def test_a_corrupt_checkpoint_is_named(folder: Path) -> None:
    (folder / "faces.pt").write_bytes(b"PK\x03\x04" + bytes(range(256)) * 8)
    assert "faces.pt" in refused(call(*latents(folder)), 3).sentence


class _TouchesAFile:
    """Pickled, it is a call of Path.touch."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.canary,))


@pytest.mark.parametrize("zipped", [True, False], ids=["torch.save", "plain pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_nothing_runs(folder: Path, zipped: bool) -> None:
    content = {"main.0.weight": torch.zeros(2), "payload": _TouchesAFile(folder / "canary")}
    if zipped:
        torch.save(content, folder / "faces.pt")
    else:
        (folder / "faces.pt").write_bytes(pickle.dumps(content))
    assert "would run code" in refused(call(*latents(folder)), 3).sentence
    assert not (folder / "canary").exists()


def test_a_generator_of_pictures_without_a_folder_asks_for_one(folder: Path) -> None:
    told = refused(call(*pictures(folder)), 7)
    assert "no folder was given" in told.sentence and "--data" in told.hint


@pytest.mark.parametrize("what", ["missing", "empty", "corrupt", "few", "a file"])
def test_a_wrong_data_folder_is_named_before_anything_is_written(folder: Path, what: str) -> None:
    data = folder / "photos"
    match what:
        case "missing":
            shutil.rmtree(data)
        case "empty":
            shutil.rmtree(data)
            data.mkdir()
        case "corrupt":
            (data / "03.png").write_bytes((data / "03.png").read_bytes()[:200])
        case "few":
            for path in sorted(data.iterdir())[5:]:
                path.unlink()
        case _:
            data = folder / "photos" / "03.png"
    told = refused(call(*pictures(folder, "--data", data)), 7)
    words = {
        "missing": f"{data} does not exist", "empty": f"{data} holds no pictures", "corrupt": "03.png is not a readable picture",
        "few": "holds 5 different pictures", "a file": "is a file, not a folder",
    }  # fmt: skip
    assert words[what] in told.sentence
    assert not (folder / "out").exists()


def test_a_layer_that_the_back_end_refuses_is_named_before_training(folder: Path) -> None:
    told = refused(call(*pictures(folder, "--target", "raspberry-pi-5", "--data", folder / "photos", net="Squeezing")), 9)
    assert "AdaptiveAvgPool2d" in told.sentence and "raspberry-pi-5" in told.sentence and "node '" in told.sentence
    assert not (folder / "out").exists()


def test_a_layer_that_edgegen_does_not_know_is_named(folder: Path) -> None:
    told = refused(call(*pictures(folder, "--data", folder / "photos", net="Strange")), 3)
    assert "RReLU" in told.sentence


def test_a_class_without_trust_is_not_run(folder: Path) -> None:
    words = [word for word in pictures(folder) if word != "--trust"]
    assert "--trust" in refused(call(*words), 3).hint


def test_a_missing_extra_is_named_before_training_with_the_install_that_brings_it(folder: Path) -> None:
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(_BLOCKING)
    told = refused(call(*latents(folder, "--target", "raspberry-pi-5"), path=folder / "site"), 8)
    assert "litert_torch" in told.sentence and told.hint == "pip install 'edgegen[tflite]'"
    assert not (folder / "out").exists()


def test_an_impossible_latency_stops_before_training(folder: Path) -> None:
    told = refused(call(*latents(folder, "--target", "intel-n100", "--latency", "1us")), 4)
    assert "narrowest student" in told.sentence and "--latency" in told.hint
    assert not (folder / "out" / "bundle").exists()


def test_a_second_run_without_resume_is_refused(folder: Path) -> None:
    words = latents(folder, "--target", "intel-n100", "--until", "load")
    assert call(*words).returncode == 0
    told = refused(call(*words), 6)
    assert "already holds a run" in told.sentence and "--resume" in told.hint


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("rewrite", "generator.json"),
        ("distill", "distill.training.part"),
        ("distill", "generator.json"),
        ("verify", "judged.json"),
    ],
    ids=["rewrite", "training state", "student", "verify"],
)
def test_a_full_disk_ends_in_one_sentence_and_resume_goes_on(folder: Path, stage: str, name: str) -> None:
    options = ["--target", "intel-n100", "--resume", "--until", stage]
    words = latents(folder, *options)
    assert call(*words).returncode == 0
    whole = pipeline_runs.stage(folder / "out", stage)
    part = whole.with_name(whole.name + ".part")
    shutil.rmtree(whole)
    part.mkdir()
    (part / name).symlink_to("/dev/full")  # every write to it fails as on a full disk, by the kernel's own hand
    told = refused(call(*words), 12)
    assert ("full" in told.sentence or "No space left" in told.sentence) and "free some space" in told.hint
    assert not whole.exists()
    (part / name).unlink(missing_ok=True)
    assert call(*words).returncode == 0
    assert whole.exists()


@pytest.mark.parametrize(
    "words", ["Error while serializing: I/O error: No space left on device (os error 28)", "basic_ios::clear: iostream error"]
)
def test_what_libraries_say_on_a_full_disk_is_understood(tmp_path: Path, words: str) -> None:
    with pytest.raises(StorageError, match="is full"), storage_errors(tmp_path):
        raise RuntimeError(words)
    with pytest.raises(RuntimeError, match="a bug"), storage_errors(tmp_path):
        raise RuntimeError("a bug")


def test_a_place_where_no_folder_can_be_made_is_named() -> None:
    with pytest.raises(StorageError, match="/proc/nowhere cannot be written"):
        Workspace(Path("/proc/nowhere"), resume=False)


def test_a_place_that_is_no_folder_is_named(folder: Path) -> None:
    (folder / "out").write_text("a file")
    told = refused(call(*latents(folder, "--target", "intel-n100")), 12)
    assert str(folder / "out") in told.sentence and "--out" in told.hint
