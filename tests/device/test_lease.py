"""Who holds a device: only a process of this very machine that has ended is known to be gone."""

import os
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from edgegen.device.guarded import guard_script
from edgegen.device.lease import is_gone, who


def test_only_an_ended_process_of_this_machine_is_gone() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    name, here, pid = who().split(":")
    assert (pid, is_gone(who())) == (str(os.getpid()), False)
    assert is_gone(f"{name}:{here}:{ended.pid}")
    assert not is_gone(f"{name}:0123456789ab:{ended.pid}") and not is_gone(f"{name}::{ended.pid}")
    assert not is_gone(name) and not is_gone(f"{name}:{here}:../1") and not is_gone("")


@pytest.mark.slow
def test_a_board_whose_holder_says_nothing_more_is_free_for_others_after_four_beats(tmp_path: Path) -> None:
    """The holder is on another machine, and its link is dead: the lock's process is there, its input is open, nothing comes."""
    script = resources.files("edgegen.device").joinpath("lease.sh").read_text(encoding="utf-8")
    take = ["sh", "-c", script, "sh", str(tmp_path)]
    guard = ["sh", "-c", guard_script(), "sh", "0123", "60", "", str(tmp_path), "watch", "1"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    holder = subprocess.Popen([*guard, *take, "other@far:0123456789ab:7", ""], **pipes)
    assert holder.stdout is not None and [holder.stdout.readline() for _ in range(2)] == ["edgegen:0123:begin\n", "held\n"]
    busy = subprocess.run([*take, who(), ""], capture_output=True, text=True, timeout=60)
    assert (busy.returncode, busy.stdout) == (75, "busy other@far:0123456789ab:7\n")
    assert holder.wait(timeout=60) == 0 and not os.path.lexists(tmp_path / "lock")
    assert holder.stdin is not None
    holder.stdin.close()
    holder.stdout.close()
