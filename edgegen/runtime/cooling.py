"""Wait until the device is as cool as it was at rest, so that processes begin alike. Python >= 3.8, standard library only."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Mapping, Optional

from edgegen.runtime.sensors.reading import Quantity
from edgegen.runtime.sensors.sense import sample_once

NEAR_C = 5.0
_POLL_S = 1.0


def zones_c(root: str) -> Dict[str, float]:
    """Return the temperature of every zone under `root` that tells it."""
    found = sample_once(root).values()
    return {r.name: r.value for r in found if r.quantity is Quantity.TEMPERATURE and r.value is not None}


def wait_until_cool(
    root: str, rest_c: Mapping[str, float], seconds: float, *, sleep_s: Callable[[float], Any] = time.sleep
) -> Dict[str, Any]:
    """Return once every zone is at most 5 C above what `rest_c` says of it, or after `seconds`: how long that took, and by how
    much the zone that is furthest above its rest still was. None without a zone that was there at rest and is now.
    """
    waited = 0.0
    while True:
        above = _above_c(zones_c(root), rest_c)
        if above is None or above <= NEAR_C or waited >= seconds:
            return {"waited_s": round(waited, 3), "above_c": None if above is None else round(above, 3)}
        step = min(_POLL_S, seconds - waited)
        sleep_s(step)
        waited += step


def _above_c(now: Mapping[str, float], rest_c: Mapping[str, float]) -> Optional[float]:
    return max((value - rest_c[name] for name, value in now.items() if name in rest_c), default=None)
