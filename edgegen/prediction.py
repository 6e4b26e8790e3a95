"""What latency is predicted from on a target that is not this machine: layers measured on such a device, or its profile."""

from __future__ import annotations

from typing import Any

from edgegen.latency import DeviceTable, LatencyModel, Roofline, find_device_table
from edgegen.request import Request
from edgegen.spec import Precision

_UNIT_PER_S = 1e9  # of a target without peaks: a table scales it, so its unit does not matter


def predictor(request: Request, precision: Precision) -> LatencyModel | None:
    """Return what estimates layers in `precision`: the table of `request.tables` that was measured on the target, scaled by the
    profile where it has gaps; else the profile alone; None when the profile has no peak for it either."""
    target = request.target
    macs, moved = target.macs_per_s(precision), target.memory_bytes_per_s
    known = macs is not None and moved is not None
    base = Roofline(macs or _UNIT_PER_S, moved or _UNIT_PER_S, precision, target.channel_multiple)
    return _table(request, precision, base) or (base if known else None)


def prediction_facts(request: Request) -> dict[str, Any]:
    """Return what predictions for the target come from, for the keys of stages that predict; nothing for local targets."""
    target = request.target
    if target.local:
        return {}
    facts = {"macs_per_s": {p.value: target.macs_per_s(p) for p in target.precisions}, "bytes_per_s": target.memory_bytes_per_s}
    tables = [_table(request, p, Roofline(1.0, 1.0, p, 1)) for p in target.precisions]
    measured = [table.digest for table in tables if table is not None]
    return {**facts, "tables": measured} if measured else facts


def _table(request: Request, precision: Precision, base: LatencyModel) -> DeviceTable | None:
    if request.tables is None:
        return None
    return find_device_table(request.tables, request.target.id, request.target.backend, precision, base=base)
