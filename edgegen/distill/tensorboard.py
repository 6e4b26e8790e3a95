"""Scalars and picture grids for TensorBoard, when a folder for them is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgegen.errors import require


class Board:
    """Writes what it is given, or nothing when there is no writer."""

    def __init__(self, writer: Any | None) -> None:
        self._writer = writer

    @property
    def is_open(self) -> bool:
        """Whether anything is written: pictures need not be made otherwise."""
        return self._writer is not None

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write `values` (name -> value) of `step`."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Write `picture` (H, W, 3), uint8."""
        if self._writer is not None:
            self._writer.add_image(name, picture, step, dataformats="HWC")


@contextmanager
def open_board(folder: Path | None, *, first_step: int) -> Iterator[Board]:
    """Give a board that writes into `folder`, and hides what a killed run had written from `first_step` on; None: a mute one.

    Raises MissingExtraError when TensorBoard is not installed.
    """
    if folder is None:
        yield Board(None)
        return
    writer = require("torch.utils.tensorboard", extra="tensorboard").SummaryWriter(str(folder), purge_step=first_step)
    try:
        yield Board(writer)
    finally:
        writer.close()
