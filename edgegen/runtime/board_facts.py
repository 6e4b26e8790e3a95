"""What a board says of its software, its supply and its fan. Every fact is None where nothing tells. Python >= 3.8.

Standard library only; read under a root, "/" on a device, that tests can fake.
"""

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Optional

from edgegen.runtime.sensors.reading import folders, number_in, text_of, under

_DRIVERS = ("nvidia", "nvgpu", "intel_vpu", "galcore", "rknpu", "ethosu")
_PWM_MOST = 255


def board_facts(root: str = "/") -> Dict[str, Any]:
    """Return L4T, driver of the accelerator, seconds since the start, where the power comes from, and the fan in percent."""
    return {
        "l4t": l4t(root), "driver": driver(root), "uptime_s": uptime_s(root), "power_source": power_source(root),
        "fan_pct": fan_pct(root),
    }  # fmt: skip


def l4t(root: str = "/") -> Optional[str]:
    """Return the release of Jetson Linux, "36.4.3"; None elsewhere."""
    text = text_of(under(root, "/etc/nv_tegra_release")) or ""
    found = re.match(r"# R([0-9]{1,3}) \(release\), REVISION: ([0-9]{1,3}(?:\.[0-9]{1,3})?)", text)
    return f"{found.group(1)}.{found.group(2)}" if found else None


def driver(root: str = "/") -> Optional[str]:
    """Return name and version of the first driver of a GPU or NPU that states one: "nvidia 540.4.0"."""
    for name in _DRIVERS:
        text = text_of(under(root, f"/sys/module/{name}/version"))
        if text and len(text) < 80 and text.isprintable():
            return f"{name} {text}"
    return None


def uptime_s(root: str = "/") -> Optional[float]:
    """Return the seconds since the start of the system."""
    found = re.match(r"[0-9]{1,12}(?:\.[0-9]{1,4})?(?= |$)", text_of(under(root, "/proc/uptime")) or "")
    return float(found.group()) if found else None


def power_source(root: str = "/") -> Optional[str]:
    """Return "battery" where one is being drained, "mains" where a supply or a battery says that there is power; else None."""
    mains: List[bool] = []
    for folder in folders(under(root, "/sys/class/power_supply"), r"[\w.:@-]+"):
        if text_of(os.path.join(folder, "type")) == "Battery":
            status = text_of(os.path.join(folder, "status"))
            if status == "Discharging":
                return "battery"
            mains.append(status in ("Charging", "Full", "Not charging"))
        else:
            mains.append(text_of(os.path.join(folder, "online")) in ("1", "2"))
    return "mains" if any(mains) else None


def fan_pct(root: str = "/") -> Optional[float]:
    """Return how fast the fastest fan is asked to turn, in percent."""
    found = [
        number_in(os.path.join(folder, "pwm1"), 0, _PWM_MOST)[0]
        for folder in folders(under(root, "/sys/class/hwmon"), r"hwmon[0-9]+")
    ]
    asked = [value for value in found if value is not None]
    return round(100 * max(asked) / _PWM_MOST, 1) if asked else None
