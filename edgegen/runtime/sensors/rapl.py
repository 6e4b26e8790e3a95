"""Energy counters of Intel and AMD processors (RAPL). Only root may read them since Linux 5.10.

The package includes the GPU and NPU on it. Python >= 3.8, standard library only.
"""

from __future__ import annotations

import os
from typing import List, Optional

from edgegen.runtime.sensors.reading import Quantity, Reading, folders, number_in, text_of, under

_MAX_UJ = 1 << 63


def energies(root: str) -> List[Reading]:
    """Return the counter of every domain in joules, with the value at which it starts again."""
    found = []
    for folder in folders(under(root, "/sys/class/powercap"), r"intel-rapl(:[0-9]+)+"):
        name = text_of(os.path.join(folder, "name")) or "?"
        parent = os.path.dirname(folder) + "/" + ":".join(os.path.basename(folder).split(":")[:2])
        package = text_of(os.path.join(parent, "name")) or "?"
        full = name if parent == folder else f"{package}/{name}"
        micro_j, problem = number_in(os.path.join(folder, "energy_uj"), 0, _MAX_UJ)
        span, _ = number_in(os.path.join(folder, "max_energy_range_uj"), 1, _MAX_UJ)
        value = None if micro_j is None else micro_j / 1e6
        found.append(Reading(Quantity.ENERGY, full, value, "rapl", problem, None if span is None else span / 1e6))
    return found


def grown(before: float, after: float, wraps_at: Optional[float]) -> Optional[float]:
    """Return by how much a counter grew that wraps at most once between two readings; None if it fell and has no known range."""
    if after >= before:
        return after - before
    return None if wraps_at is None or before > wraps_at else after + wraps_at - before
