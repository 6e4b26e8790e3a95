"""What boards say of themselves in /proc, /sys and /etc: files that are bound over those of this machine.

The texts are those that the boards' own documentation and public logs show; nothing here was read from a board by us.
"""

from __future__ import annotations

import dataclasses
import uuid
from pathlib import Path

# What is bound as a whole, so that nothing of this machine shows beside the board's own.
_BOUND = (
    "proc/device-tree", "proc/meminfo", "proc/sys/kernel/random/boot_id", "sys/class/thermal", "sys/class/hwmon",
    "sys/class/devfreq", "sys/devices/system/cpu/cpu0/cpufreq", "etc/nv_tegra_release", "etc/os-release",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Identity:
    """A board: the emulated CPU (a name that qemu knows), and its files by path."""

    cpu: str
    files: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write the files below `folder`; tests may change them while the board runs."""
        for name, content in {**self.files, **boot()}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")

    def binds(self, folder: Path) -> list[str]:
        """Return proot's options that put the files in their places."""
        places = [place for place in _BOUND if (folder / place).exists()]
        return [option for place in places for option in ("-b", f"{folder / place}:/{place}")]


def boot() -> dict[str, str]:
    """Return what is new with every start of a board."""
    return {"proc/sys/kernel/random/boot_id": f"{uuid.uuid4()}\n"}


def _device_tree(model: str, *compatible: str) -> dict[str, str]:
    listed = "".join(f"{name}\0" for name in compatible)
    return {"proc/device-tree/model": f"{model}\0", "proc/device-tree/compatible": listed}


def _memory(kib: int) -> dict[str, str]:
    lines = {"MemTotal": kib, "MemFree": kib // 2, "MemAvailable": kib * 3 // 4, "SwapTotal": 0, "SwapFree": 0}
    return {"proc/meminfo": "".join(f"{name + ':':<16}{value:>8} kB\n" for name, value in lines.items())}


def _thermal(critical_c: int, **zones_c: float) -> dict[str, str]:
    files = {}
    for index, (name, celsius) in enumerate(zones_c.items()):
        zone = f"sys/class/thermal/thermal_zone{index}"
        files[f"{zone}/type"] = name.replace("_", "-") + "\n"
        files[f"{zone}/temp"] = f"{celsius * 1000:.0f}\n"
        files[f"{zone}/trip_point_0_type"] = "critical\n"
        files[f"{zone}/trip_point_0_temp"] = f"{critical_c * 1000}\n"
    return files


def _clocks(governor: str, low_khz: int, high_khz: int) -> dict[str, str]:
    values = {
        "scaling_governor": governor, "scaling_min_freq": low_khz, "scaling_max_freq": high_khz, "cpuinfo_cur_freq": high_khz,
        "scaling_cur_freq": high_khz,
    }  # fmt: skip
    return {f"sys/devices/system/cpu/cpu0/cpufreq/{name}": f"{value}\n" for name, value in values.items()}


def _hwmon(*chips: dict[str, object]) -> dict[str, str]:
    return {
        f"sys/class/hwmon/hwmon{index}/{name}": f"{value}\n" for index, chip in enumerate(chips) for name, value in chip.items()
    }


_INA3221 = {
    "name": "ina3221", "in1_label": "VDD_IN", "in1_input": 5008, "curr1_input": 1184, "in2_label": "VDD_CPU_GPU_CV",
    "in2_input": 5008, "curr2_input": 312, "in3_label": "VDD_SOC", "in3_input": 5008, "curr3_input": 296,
}  # fmt: skip
_OVER_CURRENT = {"name": "soctherm_oc", "oc1_event_cnt": 0, "oc2_event_cnt": 0, "oc3_event_cnt": 0}

RASPBERRY_PI_5 = Identity(
    "cortex-a76",
    {
        **_device_tree("Raspberry Pi 5 Model B Rev 1.0", "raspberrypi,5-model-b", "brcm,bcm2712"), **_memory(8_245_248),
        **_thermal(110, cpu_thermal=51.2), **_clocks("ondemand", 1_500_000, 2_400_000),
    },
)  # fmt: skip
ORIN_NANO = Identity(  # its Cortex-A78AE is not among qemu's; the A76 is the nearest before it
    "cortex-a76",
    {
        **_device_tree(
            "NVIDIA Jetson Orin Nano Developer Kit", "nvidia,p3768-0000+p3767-0005", "nvidia,p3767-0005", "nvidia,tegra234"
        ),
        **_memory(7_802_368), **_thermal(104, cpu_thermal=48.5, gpu_thermal=47.1, soc0_thermal=46.8, tj_thermal=48.5),
        **_clocks("schedutil", 729_600, 1_510_400), **_hwmon(_INA3221, _OVER_CURRENT),
        "etc/nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, "
        "DATE: Tue Aug  1 19:57:35 UTC 2023\n",
    },
)  # fmt: skip
IMX8M_PLUS = Identity(
    "cortex-a53",
    {
        **_device_tree("NXP i.MX8MPlus EVK board", "fsl,imx8mp-evk", "fsl,imx8mp"), **_memory(5_913_600),
        **_thermal(95, cpu_thermal=43.0, soc_thermal=44.0), **_clocks("schedutil", 1_200_000, 1_800_000),
    },
)  # fmt: skip
YOCTO = Identity(
    IMX8M_PLUS.cpu,
    {
        **IMX8M_PLUS.files,
        "etc/os-release": 'ID=poky\nNAME="Poky (Yocto Project Reference Distro)"\nVERSION_ID=4.2\n'
        'PRETTY_NAME="Poky (Yocto Project Reference Distro) 4.2 (mickledore)"\n',
    },
)
