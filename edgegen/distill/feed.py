"""Training inputs, prepared by the training process itself or by processes that work ahead of it.

What a step gets is a function of `inputs`, the settings and the step, whoever prepares it: the number of workers changes no bit.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import signal
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset

from edgegen.errors import EdgegenError, RecipeError
from edgegen.recipe import AugmentConfig, DistillConfig

if TYPE_CHECKING:
    from edgegen.data import Inputs

_AHEAD = 2  # steps that each worker prepares before they are asked for
_FORK = "fork"  # the pictures in memory are shared, not copied; the workers touch neither the GPU nor torch's threads


@dataclasses.dataclass(frozen=True)
class Fed:
    """What one step trains on: `inputs`, one tensor (N, ...) each, and what a super-resolver's were reduced from, or None.

    `positions` tell where in a pool of fixed inputs they lie; None: the pool is endless.
    """

    inputs: tuple[torch.Tensor, ...]
    truth: torch.Tensor | None
    positions: tuple[int, ...] | None


class _Steps(Dataset[Any]):
    """Step -> Fed. An error for the user is a value here: DataLoader would bury its hint in a traceback."""

    def __init__(self, inputs: Inputs, config: DistillConfig) -> None:
        self._inputs, self._config = inputs, config

    def __getitem__(self, step: int) -> Fed | EdgegenError:
        try:
            return prepare(self._inputs, self._config, step)
        except EdgegenError as error:
            return error


def prepare(inputs: Inputs, config: DistillConfig, step: int) -> Fed:
    """Return what step `step` trains on."""
    batch, augment = config.batch, config.augment
    truth = inputs.train_truth(step, batch, augment) if config.losses.truth else None
    positions = tuple(inputs.positions(step, batch, augment)) if augment.views else None
    return Fed(inputs.train(step, batch, augment), truth, positions)


class Feed:
    """Gives the steps from `first_step` to `steps`, in order. A context manager: its workers end with it, however it is left."""

    def __init__(self, inputs: Inputs, config: DistillConfig, *, first_step: int, steps: int) -> None:
        self._inputs, self._config = inputs, config
        self._range = range(first_step, steps)
        self._ahead: Iterator[Any] | None = None
        self._last: tuple[int, Fed] | None = None
        self._on_child: Any = None

    def __enter__(self) -> Feed:
        workers = min(self._config.workers, len(self._range))
        if workers:
            if _FORK not in multiprocessing.get_all_start_methods():
                raise RecipeError("distill.workers needs processes that fork, which this system has not", hint="set it to 0")
            loader = DataLoader(
                _Steps(self._inputs, self._config), batch_size=None, sampler=self._range, num_workers=workers,
                prefetch_factor=_AHEAD, multiprocessing_context=_FORK,
                generator=torch.Generator(),  # otherwise the loader would draw from the generator of this process
            )  # fmt: skip
            self._on_child = signal.getsignal(signal.SIGCHLD)
            self._ahead = iter(loader)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            # Dropping the iterator would end its workers too, but the traceback of an interrupted step may hold it.
            getattr(ahead, "_shutdown_workers")()  # noqa: B009  private, and the only way to end them for sure
            self._forget_children()

    def _forget_children(self) -> None:
        """Give SIGCHLD back: torch keeps its handler for good, and on the small signal stack that some back end leaves behind,
        the end of any later child process would then kill this one (SIGSEGV from the kernel, AVX-512 machine)."""
        from torch.utils.data._utils import signal_handling

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, self._on_child if self._on_child is not None else signal.SIG_DFL)
            signal_handling._SIGCHLD_handler_set = False

    def take(self, step: int) -> Fed:
        """Return what step `step` trains on; the steps must be asked for in order, each once."""
        found = prepare(self._inputs, self._config, step) if self._ahead is None else next(self._ahead)
        if isinstance(found, EdgegenError):
            raise found
        self._last = step, found
        return found

    def train_truth(self, step: int, batch: int, augment: AugmentConfig) -> torch.Tensor | None:
        """Return what `Inputs.train_truth` does; that of the step that was taken last is at hand."""
        if self._last is not None and self._last[0] == step and self._config.losses.truth:
            return self._last[1].truth
        return self._inputs.train_truth(step, batch, augment)
