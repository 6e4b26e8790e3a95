"""What estimates latency: the protocol, the sum over layers, and the roofline of a profile."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Protocol

from edgegen.latency.work import LayerWork
from edgegen.spec import Precision

_BYTES = {Precision.F32: 4, Precision.F16: 2, Precision.INT8: 1, Precision.INT8_DYNAMIC: 4, Precision.INT8_FULL: 1}


class LatencyModel(Protocol):
    """Estimates layers on one target. `label` is "measured" or "predicted" and goes wherever an estimate is shown."""

    @property
    def label(self) -> str:
        """Where estimates come from."""
        ...

    def seconds(self, work: LayerWork) -> float:
        """Return the estimated latency of one layer and its passes."""
        ...


@dataclasses.dataclass(frozen=True)
class MacCount:
    """Counts multiply-accumulates in place of seconds: for goals that are stated in them, whatever they take on a machine."""

    label: str = "counted"

    def seconds(self, work: LayerWork) -> float:
        """Return the multiply-accumulates of one layer; passes have none."""
        return float(work.macs)


def estimate(model: LatencyModel, works: Iterable[LayerWork]) -> float:
    """Return the estimated latency of a generator in seconds: the sum over its layers."""
    return sum(model.seconds(work) for work in works)


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Predicts from a profile: the larger of compute and memory time (Williams et al., 2009). Channels round up to the tile.

    A pass costs what it moves. Handing tensors over is not in a profile and counts as nothing.
    """

    macs_per_s: float
    bytes_per_s: float
    precision: Precision
    channel_multiple: int
    label: str = "predicted"

    def seconds(self, work: LayerWork) -> float:
        """Return max(MACs / peak, bytes / bandwidth), with channels padded to the multiple that the hardware computes anyway."""
        if work.kind in ("input", "output"):
            return self._passes_s(work)
        tile = self.channel_multiple
        padded = dataclasses.replace(work, inputs=-(-work.inputs // tile) * tile, outputs=-(-work.outputs // tile) * tile)
        macs = padded.macs if work.groups == 1 else work.macs
        moved = padded.values_moved * _BYTES[self.precision]
        return max(macs / self.macs_per_s, moved / self.bytes_per_s) + self._passes_s(padded)

    def _passes_s(self, work: LayerWork) -> float:
        moved = 0
        for item in work.passes:
            for count, int8 in zip(item.values(work.outputs), (item.from_int8, item.to_int8), strict=True):
                moved += count * (_BYTES[self.precision] if int8 or self.precision is not Precision.INT8 else 4)
        return moved / self.bytes_per_s
