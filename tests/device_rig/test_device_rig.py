"""The rig itself: what it takes from the machine, what is left of a failure, and that its boards are boards."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from device_rig.apt import RigError, choose_mirror, open_apt, run_tool
from device_rig.boards import MODELS, VirtualBoard
from device_rig.build import Cache
from device_rig.recipe import DEBIAN12

every_board = pytest.mark.parametrize("board", list(MODELS), indirect=True)


def test_the_mirror_is_that_of_the_machines_debian_and_not_of_its_security_updates() -> None:
    listed = """Translations bookworm http://mirror.example/debian/
Packages nodistro http://vendor.example/node/
Packages bookworm-security http://mirror.example/debian-security/
Packages bookworm http://mirror.example/debian/
"""
    assert choose_mirror(listed) == "http://mirror.example/debian/"


def test_without_debian_sources_there_is_no_mirror() -> None:
    assert choose_mirror("Packages noble http://mirror.example/ubuntu/\n") is None


def test_an_unreachable_mirror_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RigError, match="`apt-get update` for the device rig failed: .*127.0.0.1:9") as caught:
        open_apt(tmp_path / "apt", "http://127.0.0.1:9/debian", architecture="arm64", suites=("bookworm",))
    assert len(str(caught.value).splitlines()) == 1


def test_a_tool_that_hangs_is_ended_and_named() -> None:
    with pytest.raises(RigError, match="waiting took more than 1 s"):
        run_tool(["sleep", "60"], doing="waiting", timeout_s=1)


def test_a_part_that_cannot_be_built_leaves_nothing_that_looks_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # a machine without apt-get
    with pytest.raises(RigError, match="no apt-get here"):
        Cache(tmp_path / "cache").ensure(DEBIAN12)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lock"]


@pytest.mark.slow
@every_board
def test_a_board_is_an_arm_machine_with_a_name_of_its_own(board: VirtualBoard) -> None:
    said = board.run(
        "uname -m; id -un; cat /proc/device-tree/model; echo; grep -c GenuineIntel /proc/cpuinfo; ls /proc/device-tree"
    )
    model = board.model.identity.files["proc/device-tree/model"].strip("\0")
    lines = said.stdout.decode().replace("\0", "").split("\n")
    assert lines[:4] == ["aarch64", "root", model, "0"]
    assert {"compatible", "model"} <= set(lines[4:])


@pytest.mark.slow
@every_board
def test_what_a_board_gets_is_what_was_sent(board: VirtualBoard) -> None:
    content = bytes(range(256)) * 4096
    done = board.run("cat > sent && cat sent && rm sent", given=content)
    assert done.stdout == content


@pytest.mark.slow
def test_debian_boards_take_files_by_sftp_and_rsync_and_the_busybox_board_by_neither(
    debian12: VirtualBoard, busybox: VirtualBoard, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("content")
    for board, works in ((debian12, True), (busybox, False)):
        goal = f"{board.user}@127.0.0.1"
        rsync = ["rsync", "-e", f"ssh -p {board.port}", str(tmp_path / "file"), f"{goal}:by-rsync"]
        sftp = ["sftp", "-b", "-", "-P", str(board.port), goal]
        for line, given in ((rsync, ""), (sftp, f"put {tmp_path / 'file'} by-sftp\n")):
            done = subprocess.run(line, env=board.environment, input=given, capture_output=True, text=True, timeout=300)
            assert (done.returncode == 0) is works, done.stderr
        arrived = [(board.home / name).is_file() for name in ("by-rsync", "by-sftp")]
        assert arrived == [works, works]


@pytest.mark.slow
def test_an_unknown_host_key_is_refused(debian12: VirtualBoard) -> None:
    line = ["ssh", "-o", "UserKnownHostsFile=/dev/null", "-p", str(debian12.port), f"{debian12.user}@127.0.0.1", "true"]
    done = subprocess.run(line, env=debian12.environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("board", ["tflite", "busybox"], indirect=True)
def test_a_board_without_power_runs_nothing_and_boots_anew(board: VirtualBoard) -> None:
    before = board.run("cat /proc/sys/kernel/random/boot_id").stdout
    line = [str(board.client / "ssh"), "-p", str(board.port), f"{board.user}@127.0.0.1", "echo up; env -i sleep 600; echo late"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"
        board.power_off()
        assert running.stdout.read() == ""
    assert running.returncode == 255
    assert board.processes() == []
    board.power_on()
    after = board.run("cat /proc/sys/kernel/random/boot_id").stdout
    assert len(before) == len(after) == 37
    assert before != after
