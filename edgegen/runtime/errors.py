"""What can go wrong on the device. The host turns these into its own errors (edgegen.bundle); here they have no exit code.

Python >= 3.8, standard library only.
"""

from __future__ import annotations


class RuntimeBundleError(Exception):
    """A bundle that is incomplete, altered, from an unknown format version, or that no back end here can open."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class MissingBackendError(RuntimeBundleError):
    """The back end is not installed; the hint holds the `pip install` that brings it."""


class InputError(RuntimeBundleError):
    """An input that the generator does not take: its size, type or values are wrong. The bundle itself is fine."""


class StateError(RuntimeBundleError):
    """The state of the device (power mode, clocks) cannot be changed or brought back."""
