"""The guard around every command on a device, under each POSIX shell that is here: nothing outlives its client."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgegen.device import Completed, Ended, Limits, LocalTransport
from edgegen.device.guarded import Broken, Exchange, guard_script, run_guarded
from edgegen.errors import DeviceError

LIMITS = Limits(20.0)
SHELLS = (("dash",), ("bash",), ("busybox", "sh"))


@pytest.fixture(params=SHELLS, ids=" ".join)
def shell(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return request.param


def run(shell: tuple[str, ...], home: Path, script: str, limits: Limits = LIMITS) -> Completed | Broken:
    return run_guarded(lambda words: [*shell, *words[1:]], ["sh", "-c", script], limits, home=str(home))


def alive(marker: str) -> bool:
    """Whether a process that has `marker` in its environment is still there."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (folder / "environ").read_bytes():
                return True
        except OSError:
            continue
    return False


def gone(marker: str) -> bool:
    """Whether all processes with `marker` end within a generous time."""
    until = time.monotonic() + 30
    while alive(marker):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def test_output_and_exit_code_come_back_as_they_were(shell: tuple[str, ...], tmp_path: Path) -> None:
    assert run(shell, tmp_path, "printf 'a\\nb'; printf c >&2; exit 255") == Completed(255, "a\nb", "c")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_command_that_dies_of_a_signal_is_told_as_shells_do(shell: tuple[str, ...], tmp_path: Path) -> None:
    done = run(shell, tmp_path, "kill -SEGV $$")
    assert isinstance(done, Completed) and done.exit_code == 128 + 11 and done.ended is Ended.EXITED


def test_a_command_that_takes_too_long_is_killed_with_its_children_even_if_it_ignores_that(
    shell: tuple[str, ...], tmp_path: Path
) -> None:
    done = run(shell, tmp_path, "trap '' TERM; export MARK=slow-$$; echo $MARK; sleep 600 & sleep 600", Limits(1.0))
    assert isinstance(done, Completed) and done.ended is Ended.TIMED_OUT
    assert gone("MARK=" + done.stdout.strip())


def test_a_command_can_be_stopped_with_its_children(shell: tuple[str, ...], tmp_path: Path) -> None:
    stop = threading.Event()
    timer = threading.Timer(0.5, stop.set)
    timer.start()
    done = run(shell, tmp_path, "export MARK=stopped-$$; echo $MARK; sleep 600 & sleep 600", Limits(600.0, stop=stop))
    assert isinstance(done, Completed) and done.ended is Ended.STOPPED
    assert gone("MARK=" + done.stdout.strip())


def test_a_flood_ends_the_command(tmp_path: Path) -> None:
    done = run(("dash",), tmp_path, "export MARK=flood-$$; echo $MARK; cat /dev/zero", Limits(600.0, output_bytes=100_000))
    assert isinstance(done, Completed) and done.ended is Ended.FLOODED and len(done.stdout) <= 100_000
    assert gone("MARK=" + done.stdout.split("\n")[0])


def test_a_command_ends_when_its_client_is_killed(tmp_path: Path) -> None:
    code = (
        "from edgegen.device import LocalTransport, Limits\n"
        f"LocalTransport(folder={str(tmp_path)!r}).run(['sh', '-c', 'export MARK=orphan-$$; echo $MARK; sleep 600'],"
        " Limits(600.0), on_line=lambda line: print(line, flush=True))"
    )
    client = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    marker = "MARK=" + client.stdout.readline().strip()
    while not alive(marker):  # its first line comes before its child
        time.sleep(0.01)
    client.kill()
    client.wait()
    client.stdout.close()
    assert gone(marker)


@pytest.mark.slow
def test_a_command_whose_client_says_nothing_more_is_killed_and_one_whose_client_does_is_not(shell: tuple[str, ...]) -> None:
    """What a dead link looks like on the device: the input stays open and nothing comes."""
    guard = [*shell, "-c", guard_script(), "sh", "0123", "60", "", "/dev/null/none", "watch", "1"]
    script = 'echo "$$"; sleep 7; echo done'
    silent, heard = (
        subprocess.Popen([*guard, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    )
    assert heard.stdin is not None
    while heard.poll() is None:
        with contextlib.suppress(BrokenPipeError):
            heard.stdin.write(b"\n")
            heard.stdin.flush()
        time.sleep(0.5)
    told = [process.communicate(timeout=60) for process in (silent, heard)]
    assert b"done" in told[1][0] and b"exit:0" in told[1][1]
    assert b"done" not in told[0][0] and b"exit:143" in told[0][1]


def test_the_client_tells_the_guard_that_it_is_there(shell: tuple[str, ...], tmp_path: Path) -> None:
    done = run_guarded(
        lambda words: [*shell, *words[1:]], ["sleep", "6"], LIMITS, home=str(tmp_path), exchange=Exchange(beat_s=1.0)
    )
    assert done == Completed(0, "", "")


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = LocalTransport(folder=str(tmp_path)).run(["true"], Limits(5.0), folder=str(tmp_path / "nowhere"))
    assert done.exit_code == 126 and "nowhere" in done.stderr


def test_a_disk_that_takes_no_pid_file_stops_no_command() -> None:
    done = LocalTransport(folder="/dev/null/full").run(["echo", "still"], Limits(5.0))
    assert done.stdout == "still\n"


def test_the_guard_fits_into_the_command_of_a_small_ssh_server() -> None:
    assert len(guard_script()) < 4000 and "\n#" not in guard_script()


def test_files_are_copied_whole(tmp_path: Path) -> None:
    local = LocalTransport(folder=str(tmp_path / "device"))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"1")
    local.push(tmp_path / "a", "goal")
    (tmp_path / "a" / "x").write_bytes(b"2")
    local.push(tmp_path / "a", "goal")
    local.pull("goal/x", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"2" and os.listdir(tmp_path / "device" / "goal") == ["x"]
    with pytest.raises(DeviceError, match="absent"):
        local.pull("absent", tmp_path / "back")


def test_this_machine_says_what_it_is(tmp_path: Path) -> None:
    local = LocalTransport(folder=str(tmp_path))
    found = local.identify()
    assert (found.system, found.machine, found.node) == (os.uname().sysname, os.uname().machine, os.uname().nodename)
    assert local.folder() == str(tmp_path.resolve())


def test_a_grandchild_that_holds_the_output_open_keeps_nobody_waiting(tmp_path: Path) -> None:
    done = run(("dash",), tmp_path, "setsid sleep 600 & echo $!; exit 4", Limits(300.0))
    assert isinstance(done, Completed) and done.exit_code == 4 and done.ended is Ended.EXITED
    os.kill(int(done.stdout), 9)
