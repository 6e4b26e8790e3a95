"""Power modes, governors and clocks: changed by name, written down first, and brought back whatever happens."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from system_tree import write_program, write_tree

from edgegen.runtime.device_state import Wanted, power_mode
from edgegen.runtime.errors import StateError
from edgegen.runtime.state_journal import Lease, hold, read_journal, release, watch

GOVERNOR = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
MIN_FREQ = "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq"
LONG = 3600.0


@pytest.fixture
def board(tmp_path: Path) -> Path:
    files = {GOVERNOR: "schedutil", MIN_FREQ: 729_600, MIN_FREQ.replace("_min_", "_max_"): 1_728_000}
    return write_tree(tmp_path / "board", files)


@pytest.fixture
def jetson(board: Path) -> Path:
    golden = Path(__file__).parent / "golden" / "nvpmodel.conf"
    write_tree(board, {"/etc/nvpmodel.conf": golden.read_text(), "/mode": "15W"})
    names = "case $2 in 0) n=15W;; 1) n=25W;; 2) n=MAXN_SUPER;; esac"
    query = f'if [ $1 = -q ]; then echo "NV Power Mode: $(cat {board}/mode)"; exit; fi'
    write_program(board, "nvpmodel", f"{query}\n{names}\necho $n > {board}/mode")
    clocks = f"case $1 in --store) echo old > $2;; --restore) echo free > {board}/clocks;; *) echo fixed > {board}/clocks;; esac"
    write_program(board, "jetson_clocks", clocks)
    return board


@pytest.fixture
def journal(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "journal.json")


def text(board: Path, name: str) -> str:
    return (board / name).read_text().strip()


def test_governor_and_clocks_are_changed_and_brought_back(board: Path, journal: str) -> None:
    hold(journal, str(board), Wanted(governor="performance", fix_clocks=True), Lease("a", LONG))
    assert (text(board, GOVERNOR), text(board, MIN_FREQ)) == ("performance", "1728000")
    assert release(journal, "a") is True
    assert (text(board, GOVERNOR), text(board, MIN_FREQ)) == ("schedutil", "729600")
    assert not Path(journal).exists() and release(journal, "a") is False


def test_a_power_mode_is_chosen_by_name_and_confirmed(jetson: Path, journal: str) -> None:
    hold(journal, str(jetson), Wanted(power_mode="MAXN_SUPER", fix_clocks=True), Lease("a", LONG))
    assert power_mode(str(jetson)) == "MAXN_SUPER" and text(jetson, "clocks") == "fixed"
    release(journal)
    assert power_mode(str(jetson)) == "15W" and text(jetson, "clocks") == "free"


def test_an_unknown_power_mode_names_the_nearest_and_changes_nothing(jetson: Path, journal: str) -> None:
    with pytest.raises(StateError, match="no power mode 'MAXN'") as caught:
        hold(journal, str(jetson), Wanted(power_mode="MAXN", governor="performance"), Lease("a", LONG))
    assert "MAXN_SUPER" in caught.value.hint and text(jetson, GOVERNOR) == "schedutil" and not Path(journal).exists()


def test_a_mode_that_the_board_does_not_take_is_an_error_and_all_is_brought_back(jetson: Path, journal: str) -> None:
    write_program(jetson, "nvpmodel", 'if [ $1 = -q ]; then echo "NV Power Mode: 15W"; fi')
    with pytest.raises(StateError, match="is '15W' after nvpmodel was asked for '25W'"):
        hold(journal, str(jetson), Wanted(power_mode="25W", fix_clocks=True), Lease("a", LONG))
    assert not Path(journal).exists() and text(jetson, "clocks") == "free"


@pytest.mark.parametrize(
    ("wanted", "said"), [(Wanted(governor="performance"), "--governor"), (Wanted(fix_clocks=True), "--fix-clocks")]
)
def test_a_machine_without_clocks_to_set_is_refused(tmp_path: Path, journal: str, wanted: Wanted, said: str) -> None:
    with pytest.raises(StateError, match=said):
        hold(journal, str(tmp_path), wanted, Lease("a", LONG))


def test_the_journal_is_there_before_anything_is_changed(board: Path, journal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("edgegen.runtime.state_journal.apply", lambda *_: seen.append(json.loads(Path(journal).read_text())))
    hold(journal, str(board), Wanted(governor="performance"), Lease("a", LONG))
    assert seen[0]["undo"]["files"] == [[str(board / GOVERNOR), "schedutil"]]
    release(journal)


def test_a_second_bench_is_refused_and_the_first_may_renew(board: Path, journal: str) -> None:
    hold(journal, str(board), Wanted(governor="performance"), Lease("a", 60.0, os.getpid()))
    with pytest.raises(StateError, match="another bench holds the state"):
        hold(journal, str(board), Wanted(governor="powersave"), Lease("b", 60.0))
    before = read_journal(journal)
    assert hold(journal, str(board), Wanted(governor="performance"), Lease("a", LONG))["renewed"] is True
    after = read_journal(journal)
    assert before is not None and after is not None and after.deadline_s > before.deadline_s + 3000
    assert release(journal, "b") is False and release(journal, "a") is True


def test_a_state_that_a_dead_client_left_is_brought_back_first(
    board: Path, journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgegen.runtime.state_journal._start_watchdog", lambda *_: None)
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    hold(journal, str(board), Wanted(governor="performance"), Lease("dead", LONG, int(dead.stdout)))
    found = hold(journal, str(board), Wanted(fix_clocks=True), Lease("next", LONG))
    assert found["brought_back_first"] is True and text(board, GOVERNOR) == "schedutil"
    release(journal)


def test_the_watchdog_brings_the_state_back_when_the_lease_ends(
    board: Path, journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgegen.runtime.state_journal._start_watchdog", lambda *_: None)
    hold(journal, str(board), Wanted(governor="performance"), Lease("a", 0.0))
    watch(journal, "a")
    assert text(board, GOVERNOR) == "schedutil" and not Path(journal).exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_client_that_is_killed_leaves_the_device_as_it_was(board: Path, journal: str, how: signal.Signals) -> None:
    waits = "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler); print(flush=True); time.sleep(600)"
    client = subprocess.Popen([sys.executable, "-c", waits], stdout=subprocess.PIPE)  # a background job starts with it ignored
    assert client.stdout is not None and client.stdout.readline() == b"\n"
    try:
        line = [sys.executable, "-m", "edgegen.runtime", "hold", "--seconds", "3600", "--token", "t", "--journal", journal]
        line += ["--client", str(client.pid), "--root", str(board), "--governor", "performance"]
        subprocess.run(line, check=True, capture_output=True, timeout=120)
        assert text(board, GOVERNOR) == "performance"
    finally:
        client.send_signal(how)
        client.wait()
    deadline = time.monotonic() + 60
    while Path(journal).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert text(board, GOVERNOR) == "schedutil" and not Path(journal).exists()


def test_what_cannot_be_brought_back_stays_in_the_journal(board: Path, journal: str) -> None:
    hold(journal, str(board), Wanted(governor="performance"), Lease("a", LONG))
    (board / GOVERNOR).unlink()
    (board / GOVERNOR).mkdir()
    with pytest.raises(StateError, match="could not be brought back"):
        release(journal)
    assert read_journal(journal) is not None
    (board / GOVERNOR).rmdir()
    assert release(journal) is True and text(board, GOVERNOR) == "schedutil"


def test_a_damaged_journal_is_refused(journal: str) -> None:
    Path(journal).parent.mkdir()
    Path(journal).write_text('{"token": 1}')
    with pytest.raises(StateError, match="cannot be understood"):
        release(journal)


def test_the_command_line_says_what_is_wrong_with_code_14(tmp_path: Path, journal: str) -> None:
    line = [sys.executable, "-m", "edgegen.runtime", "hold", "--seconds", "1", "--token", "t", "--journal", journal]
    done = subprocess.run(
        [*line, "--root", str(tmp_path), "--fix-clocks"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 14 and done.stderr.startswith("error: --fix-clocks: this machine has no")
