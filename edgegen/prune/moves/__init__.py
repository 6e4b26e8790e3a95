"""Moves that change what a generator costs by other means than removing channels: one per file, each started from the teacher.

A move copies the student, replaces layers and fits the new ones to the activations that the present network has there: closed
form, no training. `search` measures what each would save and cost in pictures, and picks those that beat removing channels.
"""

from __future__ import annotations

from edgegen.prune.moves import (
    bottleneck,
    frozen_norm,
    half_head,
    half_stem,
    remove_block,
    separable,
    smaller_kernel,
    upsampling,
    zero_padding,
)
from edgegen.prune.moves.site import Move, Samples, Site

__all__ = ["MOVES", "Move", "Samples", "Site"]

MOVES = tuple(
    Move(move.NAME, move.find, move.apply)
    for move in (
        half_stem,
        half_head,
        remove_block,
        separable,
        bottleneck,
        smaller_kernel,
        upsampling,
        zero_padding,
        frozen_norm,
    )
)
"""All moves, in the order in which equal proposals are kept."""
