"""How long stages tell what they are doing without printing: the console implements this, tests pass `Silent`."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives what a long stage does. One task at a time."""

    def start(self, title: str, total: int) -> None:
        """Begin a task of `total` steps."""
        ...

    def advance(self, count: int = 1, **facts: float) -> None:
        """Report `count` more steps and the latest values, such as loss=0.03, psnr_db=24.1."""
        ...

    def finish(self) -> None:
        """End the task."""
        ...

    def note(self, text: str) -> None:
        """Report one sentence worth keeping on the screen."""
        ...


class Silent:
    """Says nothing."""

    def start(self, title: str, total: int) -> None:
        """Ignore."""

    def advance(self, count: int = 1, **facts: float) -> None:
        """Ignore."""

    def finish(self) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""
