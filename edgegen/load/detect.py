"""From the content of a checkpoint to one family: unwrap, strip prefixes, try the families in order, explain a failure.

Which wrapper or prefix is packaging and which belongs to the names (pix2pix keys begin with `model.` by right) cannot be told
from a key alone. So every way to look at the content is a view, and the first view that a family accepts wins.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from edgegen.errors import CheckpointError
from edgegen.load.family import GeneratorFamily, Match, Mismatch, State

# Averaged weights come first: they are what authors evaluate and publish.
_AVERAGED = ("params_ema", "g_ema", "G_ema", "netG_ema", "generator_ema", "model_ema", "state_dict_ema", "ema_state_dict", "ema")
_WRAPPERS = ("generator", "netG", "G", "gen", "g", "state_dict", "model_state_dict", "generator_state_dict", "G_state_dict",
             "params", "model", "net", "network", "weights", "module")  # fmt: skip
_WHOLE_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")  # packaging only if every tensor has it
_GENERATOR_PREFIXES = (*(f"{name}." for name in _AVERAGED), "netG.", "net_g.", "generator.", "G.", "gen.")
_RANKS = {"averaged": 0, "usual": 20, "unusual": 30, "bare": 10}  # each stripped prefix adds 1, so plain names come first
_MAX_DEPTH = 4
_LISTED = 3  # nearest families named in an error


@dataclasses.dataclass(frozen=True)
class View:
    """One way to look at a checkpoint: tensors by name, where they were found, and how usual that place is (0 is best)."""

    state: State
    place: str
    rank: int


@dataclasses.dataclass(frozen=True)
class Found:
    """The view that a family accepted."""

    view: View
    family: GeneratorFamily
    match: Match


def find_family(path: Path, content: Mapping[str, Any], families: tuple[GeneratorFamily, ...]) -> Found:
    """Return the family of `content`. Raises CheckpointError: no tensors, no family matches, or several generators do."""
    views = list_views(path, content)
    accepted = [Found(v, f, m) for v in views for f in families if isinstance(m := f.detect(v.state), Match)]
    if not accepted:
        raise _no_family(path, views, families)
    best = min(found.view.rank for found in accepted)
    places = {found.view.place for found in accepted if found.view.rank == best}
    if len(places) > 1:
        raise CheckpointError(
            f"{path} holds several generators: {', '.join(sorted(places))}", hint="save one of them in a file of its own"
        )
    return next(found for found in accepted if found.view.rank == best)


def list_views(path: Path, content: Mapping[str, Any]) -> list[View]:
    """Return all views of `content`, best first. Raises CheckpointError if it holds no tensors."""
    views: list[View] = []
    for state, parts in _unwrapped(content, ()):
        views.append(View(state, ".".join(parts), _rank(parts)))
        views.extend(_stripped(views[-1], 0))
    if not views:
        raise CheckpointError(f"{path} holds no tensors", hint="save generator.state_dict()")
    return sorted(views, key=lambda view: view.rank)


def _unwrapped(content: Mapping[str, Any], parts: tuple[str, ...]) -> Iterator[tuple[State, tuple[str, ...]]]:
    """Yield every mapping of names to tensors inside `content`, itself included, with the keys that lead to it."""
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}
    if tensors:
        yield tensors, parts
    if len(parts) < _MAX_DEPTH:
        for key, value in content.items():
            if isinstance(value, Mapping):
                yield from _unwrapped(value, (*parts, str(key)))


def _rank(parts: tuple[str, ...]) -> int:
    if any(part in _AVERAGED for part in parts):
        return _RANKS["averaged"]
    if not parts:
        return _RANKS["bare"]
    return _RANKS["usual"] if all(part in _WRAPPERS for part in parts) else _RANKS["unusual"]


def _stripped(view: View, depth: int) -> Iterator[View]:
    """Yield views without prefixes: one that all tensors share, or that of the generator among other networks."""
    if depth == _MAX_DEPTH:
        return
    for prefix in (*_GENERATOR_PREFIXES, *_WHOLE_PREFIXES):
        own = {key.removeprefix(prefix): value for key, value in view.state.items() if key.startswith(prefix)}
        if not own or (prefix in _WHOLE_PREFIXES and len(own) < len(view.state)):
            continue
        averaged = prefix.removesuffix(".") in _AVERAGED
        inner = View(own, f"{view.place}.{prefix}".strip("."), _RANKS["averaged"] if averaged else view.rank + 1)
        yield inner
        yield from _stripped(inner, depth + 1)


def _no_family(path: Path, views: list[View], families: tuple[GeneratorFamily, ...]) -> CheckpointError:
    """Return the error that lists the nearest families and the key that told each of them apart."""
    tried = [(m.score, f, m) for v in views for f in families if isinstance(m := f.detect(v.state), Mismatch)]
    nearest: dict[str, str] = {}
    for score, family, mismatch in sorted(tried, key=lambda entry: -entry[0]):
        if score == 0.0 and nearest:
            break
        nearest.setdefault(family.name, f"{family.name} ({mismatch.key} {_said(mismatch.reason)})")
    listed = "; ".join(list(nearest.values())[:_LISTED])
    judge = _looks_like_discriminator(views[0].state)
    hint = "its last layer gives one score: name the generator's file, not the discriminator's" if judge else (
        "load it with your own class: --arch file.py:Net --trust"
    )  # fmt: skip
    return CheckpointError(f"no family matches {path}; the nearest are {listed}", hint=hint)


def _said(reason: str) -> str:
    return f"is {reason}" if reason.startswith(("missing", "not ")) else reason


def _looks_like_discriminator(state: State) -> bool:
    """Return whether a picture goes in and the last layer makes one value of the widest features: no generator ends so."""
    weights = [value for key, value in state.items() if key.endswith("weight") and value.ndim in (2, 4)]
    if len(weights) < 2 or weights[0].ndim != 4:
        return False
    widest = max(weight.shape[0] for weight in weights)
    return weights[-1].shape[0] == 1 and weights[-1].shape[1] >= widest
