"""A plan as plain values, and its file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen import __version__
from edgegen.plan.past_runs import Expected

if TYPE_CHECKING:
    from edgegen.request import Request

FORMAT = "edgegen.plan/1"
FILE = "plan.json"
"""The plan of a run lies in its --out folder under this name."""


@dataclasses.dataclass(frozen=True)
class Option:
    """One way to compress. None stands for unknown; `latency_label` is "measured" or "predicted".

    `picture_psnr_db` is of the pruned student before training, against the uncut generator. `train_s` and `finish_s` are of this
    machine: distillation, and everything else; `ram_bytes` is the peak of the compressing process.
    """

    number: int
    name: str
    latency_s: float
    latency_label: str
    precision: str
    size_bytes: int | None
    memory_bytes: int
    macs: int
    params: int
    picture_psnr_db: float | None
    expected: Expected | None
    steps: int
    train_s: float
    finish_s: float | None
    ram_bytes: int | None
    note: str

    @property
    def compress_s(self) -> float | None:
        """The whole run in seconds; None when the part that is not training is unknown."""
        return None if self.finish_s is None else self.train_s + self.finish_s

    def to_json(self) -> dict[str, Any]:
        """Return the plain JSON object."""
        quality = None if self.expected is None else self.expected.to_json()
        return {**dataclasses.asdict(self), "expected": quality, "compress_s": self.compress_s}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Option:
        """Read what `to_json` wrote."""
        fields = {k: v for k, v in value.items() if k != "compress_s"}
        quality = fields.pop("expected")
        if quality is not None:
            quality = Expected(**{k: v for k, v in quality.items() if k != "label"})
        return Option(**fields, expected=quality)


@dataclasses.dataclass(frozen=True)
class FrontRow:
    """One student of the front, for those who want more than three."""

    latency_s: float
    macs: int
    params: int
    picture_psnr_db: float | None
    expected_ssim: float | None


@dataclasses.dataclass(frozen=True)
class Plan:
    """What could be done with a checkpoint. `key` tells requests apart: a plan answers the one that it was made for."""

    key: str
    checkpoint: str
    target: str
    family: str
    macs_per_s: float
    options: tuple[Option, ...]
    front: tuple[FrontRow, ...]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the plain JSON object."""
        return {
            "format": FORMAT,
            **{name: getattr(self, name) for name in ("key", "checkpoint", "target", "family", "macs_per_s")},
            "options": [option.to_json() for option in self.options],
            "front": [dataclasses.asdict(row) for row in self.front],
            "warnings": list(self.warnings),
        }


def plan_key(request: Request) -> str:
    """Return the hash of everything in `request` that a plan depends on, the bytes of the checkpoint included."""
    from edgegen.prediction import prediction_facts

    asked = {
        "checkpoint": hashlib.sha256(request.checkpoint.read_bytes()).hexdigest(),
        "target": request.target.to_json(),
        "budget": dataclasses.asdict(request.budget),
        "recipe": dataclasses.asdict(request.recipe),
        "data": str(request.data and request.data.resolve()),
        "resolution": request.resolution,
        "effort": request.effort.value,
        "seed": request.seed,
        "arch": request.arch,
        "version": __version__,
        "predicted_from": prediction_facts(request),
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


def save_plan(plan: Plan, folder: Path) -> Path:
    """Write the plan into `folder`, completely or not at all, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / (FILE + ".part")
    temporary.write_text(json.dumps(plan.to_json(), indent=1))
    return temporary.replace(folder / FILE)


def read_plan(folder: Path) -> Plan | None:
    """Return the plan that lies in `folder`; None when there is none, or one of another edgegen."""
    try:
        value = json.loads((folder / FILE).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if value.pop("format", None) != FORMAT:
        return None
    options = tuple(Option.from_json(option) for option in value.pop("options"))
    rows = tuple(FrontRow(**row) for row in value.pop("front"))
    return Plan(**value | {"warnings": tuple(value.get("warnings", ()))}, options=options, front=rows)
