"""The layers that generators are made of, over the widths and resolutions that pruning asks for: measured once, for all runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from edgegen.latency.table import MeasuredTable
from edgegen.latency.work import LayerWork
from edgegen.progress import Progress

_CHANNELS = (8, 16, 24, 32, 48, 64, 96, 128)
_SIDES = (16, 32, 64, 128)
_AT_A_TIME = 6  # layers that a table on this machine measures in turn, and saves


@dataclasses.dataclass(frozen=True)
class Grid:
    """Which widths and resolutions: all combinations of both, for every kind of layer."""

    channels: Sequence[int] = _CHANNELS
    sides: Sequence[int] = _SIDES

    def works(self) -> Iterator[LayerWork]:
        """Yield every layer: 3x3 and 1x1 convolutions, depthwise, strided, transposed, norms, and linear layers."""
        for side in self.sides:
            for width in self.channels:
                conv = LayerWork("conv", width, width, (3, 3), (1, 1), 1, side, side, fused=("relu",), to_int8=True)
                yield conv
                yield dataclasses.replace(conv, kernel=(1, 1))
                yield dataclasses.replace(conv, groups=width)
                yield dataclasses.replace(conv, outputs=2 * width, stride=(2, 2), height=side // 2, width=side // 2)
                yield dataclasses.replace(conv, kind="transposed", kernel=(4, 4), stride=(2, 2), height=2 * side, width=2 * side)
                yield LayerWork("norm", width, width, (1, 1), (1, 1), 1, side, side)
        for width in self.channels:
            yield LayerWork("linear", width, 16 * width, (1, 1), (1, 1), 1, 1, 1, fused=("relu",), to_int8=True)


def measure_grid(table: MeasuredTable, grid: Grid, progress: Progress, *, at_a_time: int = _AT_A_TIME) -> None:
    """Measure what `table` lacks of the grid. It is saved every few lines: after an end of any kind the same call goes on."""
    works = list(grid.works())
    progress.start("table", len(works))
    for start in range(0, len(works), at_a_time):
        few = works[start : start + at_a_time]
        table.measure(few)
        progress.advance(len(few))
    table.save()
    progress.finish()
