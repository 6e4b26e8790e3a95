"""Who holds a device: only a process of this very machine that has ended is known to be gone."""

import os
import subprocess

from edgegen.device.lease import is_gone, who


def test_only_an_ended_process_of_this_machine_is_gone() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    name, here, pid = who().split(":")
    assert (pid, is_gone(who())) == (str(os.getpid()), False)
    assert is_gone(f"{name}:{here}:{ended.pid}")
    assert not is_gone(f"{name}:0123456789ab:{ended.pid}") and not is_gone(f"{name}::{ended.pid}")
    assert not is_gone(name) and not is_gone(f"{name}:{here}:../1") and not is_gone("")
