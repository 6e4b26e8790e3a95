"""A device made ready: the runtime arrives once, runs there alone, and what is missing is named."""

import subprocess
import sys
from pathlib import Path

import pytest

from edgegen.device import Answer, Completed, FakeTransport, Limits, make_ready, place_bundle
from edgegen.device.runtime_archive import runtime_archive, runtime_digest
from edgegen.errors import DeviceError

PYTHON = Answer(Completed(0, "python 3 6 1 /usr/bin/python3\npython 3 9 1 /opt/python3.9\n"), when="import numpy")
ABSENT, PRESENT = Answer(Completed(1), when='[ -e "$1" ] &&'), Answer(Completed(0), when='[ -e "$1" ] &&')
DONE = Answer(Completed(0), when="")


def test_the_archive_is_the_same_every_time_and_runs_alone(tmp_path: Path) -> None:
    (tmp_path / "runtime.zip").write_bytes(runtime_archive())
    code = "import edgegen.runtime.__main__ as m, sys; print(m.__file__); assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'runtime.zip')!r}); {code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "runtime.zip" in done.stdout
    assert len(runtime_archive()) < 200_000 and len(runtime_digest()) == 64


def test_the_first_python_that_is_new_enough_and_has_numpy_runs_the_runtime() -> None:
    fake = FakeTransport(PYTHON, ABSENT, DONE)
    board = make_ready(fake)
    assert board.launch == ("/opt/python3.9", "-m", "edgegen.runtime")
    assert board.folder == f"/fake/edgegen/runtime/{runtime_digest()[:16]}"
    assert list(fake.files) == [board.folder + ".zip"]


def test_what_is_there_already_is_not_copied_again() -> None:
    fake = FakeTransport(PYTHON, PRESENT, DONE)
    board = make_ready(fake)
    goal = place_bundle(board, Path("bundle"), "ab" * 32)
    assert goal == "/fake/edgegen/bundles/" + "ab" * 8 and fake.files == {}


def test_a_bundle_is_placed_by_the_digest_of_its_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    fake = FakeTransport(PYTHON, ABSENT, ABSENT, DONE)
    goal = place_bundle(make_ready(fake), tmp_path, "cd" * 32)
    assert fake.files[goal + "/manifest.json"] == b"{}"


@pytest.mark.parametrize(
    ("printed", "sentence", "hint"),
    [
        ("", "has no Python >= 3.8", "install python3 there"),
        ("python 3 6 1 /usr/bin/python3\n", r"has no Python >= 3.8 \(/usr/bin/python3 is 3.6\)", "?python="),
        ("python 3 11 0 /usr/bin/python3\n", "has no numpy", "/usr/bin/python3 -m pip install numpy"),
        ("python \x1b[2J\npython 3 99999 1 x\n", "has no Python >= 3.8", "install python3"),
    ],
)
def test_what_the_device_lacks_is_named_with_the_fix(printed: str, sentence: str, hint: str) -> None:
    with pytest.raises(DeviceError, match=sentence) as caught:
        make_ready(FakeTransport(Answer(Completed(0, printed), when="import numpy"), DONE))
    assert hint in caught.value.hint


def test_a_full_disk_of_the_device_is_named() -> None:
    full = Answer(Completed(1, "", "OSError: [Errno 28] No space left on device\n"), when="extractall")
    with pytest.raises(DeviceError, match="the disk of the device is full") as caught:
        make_ready(FakeTransport(PYTHON, ABSENT, full))
    assert "?folder=" in caught.value.hint


def test_a_fake_that_is_closed_answers_no_more() -> None:
    fake = FakeTransport(Completed(0))
    fake.close()
    with pytest.raises(DeviceError, match="was closed"):
        fake.run(["true"], Limits(1.0))
