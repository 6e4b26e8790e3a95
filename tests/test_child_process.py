"""Children of `run_child`, for real: what they tell, how they die, and that none outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgegen.child_process import run_child

CHILD = """
import json, os, signal, sys, time
from edgegen.child_process import end_with_parent, tell

end_with_parent()
do = json.loads(sys.argv[2])["do"]
sys.stdout.write("a run-time that ends no line")
tell("begun", pid=os.getpid())
if do == "sleep":
    time.sleep(60)
elif do == "raise":
    raise MemoryError("no 40 GiB here")
elif do != "end":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts tests in the background ignores it
    os.kill(os.getpid(), getattr(signal, do))
"""
PARENT = """
import sys
from pathlib import Path
from edgegen.child_process import run_child

run_child("told_to", Path(sys.argv[1]), {"do": "sleep"}, lambda event: print(event["pid"], flush=True))
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that a child can run."""
    (tmp_path / "told_to.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))


@pytest.mark.parametrize(
    ("do", "death"),
    [
        ("end", None),
        ("SIGABRT", "crashed (SIGABRT)"),
        ("SIGKILL", "crashed (SIGKILL, as the system does when memory runs out)"),
        ("raise", "stopped with exit code 1 (MemoryError: no 40 GiB here)"),
    ],
)
def test_what_a_child_told_and_how_it_died_is_known(tmp_path: Path, do: str, death: str | None) -> None:
    events, found = run_child("told_to", tmp_path, {"do": do}, lambda event: None)
    assert [event["event"] for event in events] == ["begun"] and found == death


def test_ctrl_c_in_a_child_is_ctrl_c_here(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_child("told_to", tmp_path, {"do": "SIGINT"}, lambda event: None)


def test_an_exception_here_ends_the_child(tmp_path: Path) -> None:
    def fails(event: dict) -> None:
        raise KeyboardInterrupt(event["pid"])

    with pytest.raises(KeyboardInterrupt) as caught:
        run_child("told_to", tmp_path, {"do": "sleep"}, fails)
    assert not is_alive(caught.value.args[0])


def test_a_child_ends_with_its_parent_also_where_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    waited_until = time.monotonic() + 30
    while is_alive(child) and time.monotonic() < waited_until:
        time.sleep(0.02)
    assert not is_alive(child)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
