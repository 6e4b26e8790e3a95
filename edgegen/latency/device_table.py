"""Layers that were measured on a device, for what is estimated without it at hand."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgegen.latency.clock import StoppedClock
from edgegen.latency.grid import Grid
from edgegen.latency.model import LatencyModel
from edgegen.latency.table import MeasuredTable
from edgegen.latency.work import LayerWork
from edgegen.spec import Backend, Precision

_OTHER_KIND = 10.0  # a layer of another kind counts as so many times larger or smaller


class DeviceTable:
    """What the table of a device knows counts as measured there. Any other layer takes what `base` says, times how much longer
    than `base` says the most similar layer of the grid took there. `grid` are the layers that were measured, with their seconds.
    """

    label = "predicted"

    def __init__(self, table: MeasuredTable, base: LatencyModel, grid: Sequence[tuple[LayerWork, float]]) -> None:
        self._table, self._base, self._grid = table, base, tuple(grid)
        self._asked: dict[LayerWork, float] = {}

    @property
    def layers(self) -> int:
        """How many layers of the grid were measured."""
        return len(self._grid)

    @property
    def digest(self) -> str:
        """What stands for the table in the keys of stages that depend on it."""
        return hashlib.sha256(repr(self._grid).encode()).hexdigest()[:16]

    def seconds(self, work: LayerWork) -> float:
        """Return the estimated latency of one layer and its passes."""
        if work not in self._asked:
            known = self._table.known(work)
            self._asked[work] = self._scaled(work) if known is None else known
        return self._asked[work]

    def _scaled(self, work: LayerWork) -> float:
        nearest, seconds = min(self._grid, key=lambda measured: _distance(measured[0], work))
        return self._base.seconds(work) * seconds / self._base.seconds(nearest)


def find_device_table(
    folder: Path, target_id: str, backend: Backend, precision: Precision, *, base: LatencyModel
) -> DeviceTable | None:
    """Return the table with the most layers measured on a device of that target with that back end; None if there is none.

    An emulated board has no times, so its tables are left out. Float16 and dynamic int8 count as float: an upper bound.
    """
    found = []
    for path in sorted(folder.glob("latency-*.json")):
        made_on = _made_on(path)
        if (made_on.get("target"), made_on.get("backend")) != (target_id, backend.value) or made_on.get("emulated"):
            continue
        table = MeasuredTable(path, precision, clock=StoppedClock(made_on))
        measured = tuple((work, seconds) for work in Grid().works() if (seconds := table.known(work)) is not None)
        if any(work.weighted for work, _ in measured):  # norms alone are in float, whatever the table is of
            found.append(DeviceTable(table, base, measured))
    return max(found, key=lambda one: one.layers, default=None)


def _made_on(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):  # as for any cache: what cannot be read is not there
        return {}
    made_on = document.get("made_on") if isinstance(document, dict) else None
    return made_on if isinstance(made_on, dict) else {}


def _distance(one: LayerWork, other: LayerWork) -> float:
    """Return how unlike two layers are: by kind, kernel, grouping and stride first, then by their work and what they move."""
    unlike = sum(
        math.log(_OTHER_KIND)
        for same in (
            one.kind == other.kind, one.kernel == other.kernel, one.stride == other.stride,
            (one.groups > 1) == (other.groups > 1),
        )
        if not same
    )  # fmt: skip
    return unlike + abs(math.log((one.macs + 1) / (other.macs + 1))) + abs(math.log(one.values_moved / other.values_moved))
