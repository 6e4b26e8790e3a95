"""adb against an `adb` that behaves: it runs what it is told in a shell here, and knows one serial. What it says of other serials
is what adb 29 and 34 say; the real one is asked for a device that is not there."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from sshd import free_port

from edgegen.device import Address, Completed, Ended, Limits, Scheme, leased
from edgegen.device.adb import AdbTransport
from edgegen.errors import DeviceError, LinkLostError, StorageError

PROGRAM = """#!/bin/sh
[ -e {folder}/gone ] && {{ echo "error: device '$2' not found" >&2; exit 1; }}
case $2 in
  good) ;;
  new) echo "error: device unauthorized.\nThis adb server's \\$ADB_VENDOR_KEYS is not set" >&2
    echo "Try 'adb kill-server' if that seems wrong." >&2
    echo "Otherwise check for a confirmation dialog on your device." >&2; exit 1 ;;
  asking) echo "error: device still authorizing" >&2; exit 1 ;;
  asleep) echo "error: device offline" >&2; exit 1 ;;
  starting) echo "error: device still connecting" >&2; exit 1 ;;
  locked) echo "error: insufficient permissions for device: user in plugdev group; are your udev rules wrong?" >&2
    echo "See [http://developer.android.com/tools/device.html] for more information" >&2; exit 1 ;;
  *) echo "error: device '$2' not found" >&2; exit 1 ;;
esac
case $3 in
  shell) {shell} ;;
  push) cp -r "$4" "$5" && echo "1 file pushed" ;;
  pull) cp "$4" "$5" ;;
esac
"""
SPLIT, JOINED = 'exec sh -c "$4"', 'sh -c "$4" 2>&1 | sed "s/$/\\r/"'


@pytest.fixture
def adb(tmp_path: Path) -> Callable[..., AdbTransport]:
    def make(serial: str = "good", shell: str = SPLIT) -> AdbTransport:
        program = tmp_path / "adb"
        program.write_text(PROGRAM.format(folder=tmp_path, shell=shell))
        program.chmod(0o755)
        return AdbTransport(Address(Scheme.ADB, serial, folder=str(tmp_path / "device")), program=str(program))

    return make


def test_commands_run_and_files_go_there_and_back(adb: Callable[..., AdbTransport], tmp_path: Path) -> None:
    phone = adb()
    assert phone.run(["sh", "-c", 'echo "$1"; exit 3', "sh", "a 'b'"], Limits(20.0)) == Completed(3, "a 'b'\n", "")
    assert phone.identify().system == os.uname().sysname
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "x").write_text("1")
    phone.push(tmp_path / "bundle", "bundles/one")
    phone.push(tmp_path / "bundle", "bundles/one")
    phone.pull("bundles/one/x", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "1" and os.listdir(tmp_path / "device" / "bundles") == ["one"]
    with leased(phone):
        assert os.path.islink(tmp_path / "device" / "lock")


def test_an_old_adb_that_joins_both_streams_still_tells_the_exit_code(adb: Callable[..., AdbTransport]) -> None:
    done = adb(shell=JOINED).run(["sh", "-c", "echo one; exit 5"], Limits(20.0))
    assert done.exit_code == 5 and done.stdout.split() == ["one"]


def test_a_command_that_takes_too_long_is_ended(adb: Callable[..., AdbTransport]) -> None:
    assert adb().run(["sleep", "600"], Limits(1.0)).ended is Ended.TIMED_OUT


def test_what_adb_says_becomes_a_sentence(adb: Callable[..., AdbTransport], tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no device with the serial 'other'"):
        adb("other").identify()
    for serial, said, hint in (
        ("new", "has not allowed this machine", "confirm"), ("asking", "has not allowed this machine", "confirm"),
        ("asleep", "is offline", "adb reconnect"), ("starting", "is offline", "adb reconnect"),
        ("locked", "this user may not open the device adb://locked", "udev"),
    ):  # fmt: skip
        with pytest.raises(DeviceError, match=said) as caught:
            adb(serial).identify()
        assert hint in caught.value.hint
        with pytest.raises(DeviceError, match=said):
            adb(serial).pull("/absolute", tmp_path / "back")
    phone = adb()
    phone.identify()
    (tmp_path / "gone").touch()
    with pytest.raises(LinkLostError, match="the link to adb://good was lost"):
        phone.identify()
    with pytest.raises(DeviceError, match="`adb` is not installed"):
        AdbTransport(Address(Scheme.ADB, "x"), program="/nowhere/adb").identify()


def test_the_real_adb_knows_no_such_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(free_port()))  # a server of our own, ended with the test
    try:
        phone = AdbTransport(Address(Scheme.ADB, "NOSUCHSERIAL"))
        with pytest.raises(DeviceError, match="no device with the serial 'NOSUCHSERIAL' is connected") as caught:
            phone.identify()
        assert caught.value.hint == "`adb devices` lists them"
        with pytest.raises(DeviceError, match="no device with the serial 'NOSUCHSERIAL' is connected"):
            phone.pull("/data/local/tmp/x", tmp_path / "back")
    finally:
        subprocess.run(["adb", "kill-server"], capture_output=True, timeout=60)


def test_a_full_disk_of_this_machine_is_not_blamed_on_the_phone(adb: Callable[..., AdbTransport], tmp_path: Path) -> None:
    (tmp_path / "device").mkdir()
    (tmp_path / "device" / "x").write_text("1")
    (tmp_path / ".back.part").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="the disk of this machine is full"):
        adb().pull("x", tmp_path / "back")


def test_a_file_that_cannot_be_copied_is_named(adb: Callable[..., AdbTransport], tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"absent\.bin"):
        adb().pull("absent.bin", tmp_path / "back")
    assert not (tmp_path / "back").exists()
