"""Everything that can go wrong for a reason a user can act on: one class per kind, one exit code per class.

A message is the fact (it names the file, the key or the value), the hint is the fix. `edgegen.cli` prints both and exits
with `exit_code`; nothing else catches these.
"""

from __future__ import annotations


class EdgegenError(Exception):
    """Base of all errors that end a command with one sentence and a hint instead of a traceback."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class CheckpointError(EdgegenError):
    """The checkpoint cannot be read, is unsafe, or matches no family."""

    exit_code = 3


class BudgetError(EdgegenError):
    """A budget that nothing can meet, found before the long stages start."""

    exit_code = 4


class TargetError(EdgegenError):
    """Unknown target, or a target profile that breaks its schema."""

    exit_code = 5


class RecipeError(EdgegenError):
    """Unknown recipe, or a recipe or calibration file that breaks its schema, or settings that contradict each other."""

    exit_code = 6


class DataError(EdgegenError):
    """The data folder is missing, empty, too small or holds files that are not what they say."""

    exit_code = 7


class MissingExtraError(EdgegenError):
    """An optional dependency is not installed; the hint holds the `pip install` that brings it."""

    exit_code = 8


class ExportError(EdgegenError):
    """A back end refuses a layer (the node is named), or an exported artifact fails parity."""

    exit_code = 9


class BundleError(EdgegenError):
    """A bundle that is incomplete, altered or from an unknown format version."""

    exit_code = 10


class DivergedError(EdgegenError):
    """Training produced NaN or Inf and was stopped."""

    exit_code = 11


class StorageError(EdgegenError):
    """The disk is full, read-only or failing."""

    exit_code = 12


class StageError(EdgegenError):
    """A stage broke an invariant of the pipeline (the stage is named)."""

    exit_code = 13


class DeviceError(EdgegenError):
    """A device cannot be reached, refuses, is busy, or lacks what running a bundle needs."""

    exit_code = 14


class LinkLostError(DeviceError):
    """The link to a device broke while something ran on it: what came before may still be worth keeping."""


class MeasurementError(EdgegenError):
    """Measurements that cannot be compared: other conditions, no timings, or not valid."""

    exit_code = 15


class RegressionError(EdgegenError):
    """A measurement that is shown to be slower than the one before by more than allowed."""

    exit_code = 16


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str:
    """Return a hint that names the nearest known words: "did you mean 'size_mib'?", or the whole list if none is near."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(f"'{c}'" for c in close) + "?"
    return "known: " + ", ".join(known)


def require(module: str, *, extra: str):
    """Import and return `module`; raise `MissingExtraError` naming `pip install edgegen[extra]` if it is absent."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module.split('.')[0]} is not installed ({error})", hint=f"pip install 'edgegen[{extra}]'"
        ) from error
