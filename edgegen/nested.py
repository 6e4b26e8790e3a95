"""Students of several widths that share one set of weights: what one training makes all of.

Source: Yu et al. 2019 (Slimmable Neural Networks) and Yu and Huang 2019 (Universally Slimmable Networks). A narrower student
is the widest one without some of its channels, so each of its tensors is a selection from the widest one's. What selects
well for all widths at once is small and private to each: biases, the scale of norms and their statistics.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgegen.generator import Generator, StageRecord, save_generator

if TYPE_CHECKING:
    import torch
    from torch.fx import GraphModule


@dataclasses.dataclass(frozen=True)
class Width:
    """One student of a nest.

    `module` is the pruned graph. `places` holds, for each tensor that it shares, where its values lie in the flattened tensor of
    that name of the full student (int32, the shape of its own); every other tensor is its own, with the values in `module`.
    `record` is the lineage entry of the cut.
    """

    module: GraphModule
    places: Mapping[str, torch.Tensor]
    macs: int
    record: StageRecord


@dataclasses.dataclass(frozen=True)
class Nested:
    """Students from the widest to the narrowest over the weights of `full`, which has every channel that any of them has."""

    full: Generator
    widths: tuple[Width, ...]

    def student(self, index: int) -> Generator:
        """Return the student of `widths[index]` as a generator of its own: later changes to either leave the other alone."""
        width, shared = self.widths[index], self.full.module.state_dict()
        module = copy.deepcopy(width.module)
        tensors = module.state_dict()
        for name, places in width.places.items():
            tensors[name].copy_(select(shared[name], places))
        return dataclasses.replace(self.full, module=module).with_record(width.record)


def select(shared: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return the values of `shared` at the flat indices `places`, in the shape of `places`; gradients flow back to `shared`.

    Indices and not slices of sorted channels: they also serve concatenations and sub-pixel layers, whose channels do not stay
    together, and cost 1 to 2.5 ms a step with gradients (0.25 to 1.7 million weights, one x86 core).
    """
    return shared.reshape(-1).index_select(0, places.reshape(-1)).view(places.shape)


@dataclasses.dataclass(frozen=True)
class NestEntry:
    """What a stored nest has for one budget of one target; `folder` is None where even the narrowest student misses the budget.

    `narrowest_ms` is the estimate of the narrowest student, `label` says how it was found.
    """

    target: str
    budget_s: float
    narrowest_ms: float
    label: str
    folder: Path | None


_FILE, _FORMAT = "nest.json", "edgegen.nest/1"


def save_nest(folder: Path, key: str, entries: Sequence[NestEntry], students: Mapping[int, Generator]) -> None:
    """Write `entries` with their students, by the number of the entry, into the existing `folder`. `key` names the training."""
    rows = []
    for number, entry in enumerate(entries):
        student = students.get(number)
        if student is not None:
            (folder / f"{number:02d}").mkdir(exist_ok=True)
            save_generator(student, folder / f"{number:02d}")
        rows.append(dataclasses.asdict(entry) | {"folder": None if student is None else f"{number:02d}"})
    (folder / _FILE).write_text(json.dumps({"format": _FORMAT, "key": key, "students": rows}, indent=1))


def nest_key(folder: Path) -> str:
    """Return the key of the training that made the nest in `folder`."""
    return json.loads((folder / _FILE).read_text())["key"]


def find_nested(folder: Path, target: str, budget_s: float) -> NestEntry:
    """Return what the nest in `folder` has for this budget. Raises KeyError for one that it was not made for."""
    for row in json.loads((folder / _FILE).read_text())["students"]:
        if (row["target"], row["budget_s"]) == (target, budget_s):
            return NestEntry(**row | {"folder": row["folder"] and folder / row["folder"]})
    raise KeyError(f"{target} at {budget_s} s")
