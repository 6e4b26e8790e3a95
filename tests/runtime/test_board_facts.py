"""What a board says of its software, its supply and its fan: under a root that is faked."""

from pathlib import Path

import pytest
from system_tree import write_tree

from edgegen.runtime.board_facts import board_facts, power_source

SUPPLY = "/sys/class/power_supply"


def test_a_jetson_tells_its_release_driver_fan_and_uptime(tmp_path: Path) -> None:
    files = {
        "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64",
        "/sys/module/nvidia/version": "540.4.0", "/proc/uptime": "350735.47 234388.90",
        "/sys/class/hwmon/hwmon0/pwm1": 51, "/sys/class/hwmon/hwmon1/pwm1": 255,
    }  # fmt: skip
    assert board_facts(str(write_tree(tmp_path, files))) == {
        "l4t": "36.4.3", "driver": "nvidia 540.4.0", "uptime_s": 350735.47, "power_source": None, "fan_pct": 100.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("files", "source"),
    [
        ({"BAT0/type": "Battery", "BAT0/status": "Discharging", "AC/type": "Mains", "AC/online": "0"}, "battery"),
        ({"BAT0/type": "Battery", "BAT0/status": "Full"}, "mains"),
        ({"ADP1/type": "Mains", "ADP1/online": "1"}, "mains"),
        ({"usb/type": "USB", "usb/online": "0"}, None),
        ({"BAT0/type": "Battery", "BAT0/status": "Unknown"}, None),
    ],
)
def test_where_the_power_comes_from(tmp_path: Path, files: dict[str, str], source: str | None) -> None:
    assert power_source(str(write_tree(tmp_path, {f"{SUPPLY}/{name}": text for name, text in files.items()}))) == source


def test_what_is_not_there_or_makes_no_sense_is_none(tmp_path: Path) -> None:
    nonsense = {"/etc/nv_tegra_release": "R36.4", "/proc/uptime": "soon", "/sys/class/hwmon/hwmon0/pwm1": 999,
                "/sys/module/nvidia/version": "x" * 100}  # fmt: skip
    assert set(board_facts(str(write_tree(tmp_path / "a", nonsense))).values()) == {None}
    assert set(board_facts(str(tmp_path / "b")).values()) == {None}
