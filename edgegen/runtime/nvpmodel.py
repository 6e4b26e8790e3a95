"""Jetson's power modes: they are known by name, because their numbers differ from board to board. Python >= 3.8."""

from __future__ import annotations

import re
from typing import Dict, Optional

_MODE = re.compile(r"<\s*POWER_MODEL\s+ID\s*=\s*([0-9]{1,3})\s+NAME\s*=\s*([\w.+-]{1,40})\s*>")
_NAMED = re.compile(r"^NV Power Mode:\s*([\w.+-]{1,40})\s*$", re.MULTILINE)


def parse_modes(conf: str) -> Dict[str, int]:
    """Return the numbers of the power modes in nvpmodel.conf by name: {"15W": 0, "MAXN_SUPER": 2}; comments do not count."""
    lines = [line for line in conf.splitlines() if not line.lstrip().startswith("#")]
    return {name: int(number) for number, name in _MODE.findall("\n".join(lines))}


def parse_current(text: str) -> Optional[str]:
    """Return the name of the present mode from `nvpmodel -q`: "NV Power Mode: MAXN_SUPER" and a line with its number."""
    found = _NAMED.search(text)
    return found.group(1) if found else None
