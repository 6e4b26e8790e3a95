"""The words that describe a generator's inputs and outputs; shared by the host and the device.

Python >= 3.8, standard library only. `edgegen.spec` re-exports these names for the host side.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Dict, Tuple


class Kind(str, enum.Enum):
    """What a tensor means. Decides how inputs are drawn, stored, augmented and shown."""

    LATENT = "latent"
    IMAGE = "image"
    LABEL_MAP = "label_map"
    CLASS = "class"
    TOKENS = "tokens"
    NOISE = "noise"


class Layout(str, enum.Enum):
    """Order of the axes after the batch axis."""

    D = "D"
    CHW = "CHW"
    HWC = "HWC"


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One input or output of a component.

    `shape` is without the batch axis and static. `low` and `high` are the values that black (0) and white (255) pixels
    map to for images; for latents they bound a uniform distribution, or are both None for a unit normal one.
    A label map has `classes` channels, one-hot.
    """

    name: str
    kind: Kind
    shape: Tuple[int, ...]
    layout: Layout
    dtype: str = "float32"
    low: float | None = None
    high: float | None = None

    @property
    def height(self) -> int:
        """Rows of an image or label map."""
        return self.shape[self.layout.value.index("H")]

    @property
    def width(self) -> int:
        """Columns of an image or label map."""
        return self.shape[self.layout.value.index("W")]

    @property
    def channels(self) -> int:
        """Channels of an image or label map."""
        return self.shape[self.layout.value.index("C")]

    def to_json(self) -> Dict[str, Any]:
        """Return the plain JSON object; `from_json` reads it back."""
        return {
            "name": self.name, "kind": self.kind.value, "shape": list(self.shape), "layout": self.layout.value,
            "dtype": self.dtype, "low": self.low, "high": self.high,
        }  # fmt: skip

    @staticmethod
    def from_json(value: Dict[str, Any]) -> TensorSpec:
        """Read what `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        return TensorSpec(
            name=str(value["name"]), kind=Kind(value["kind"]), shape=tuple(int(n) for n in value["shape"]),
            layout=Layout(value["layout"]), dtype=str(value["dtype"]), low=value["low"], high=value["high"],
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ComponentSpec:
    """One network of a generator (most have one, called "generator"): named inputs and outputs, batch axis left out."""

    name: str
    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]

    def to_json(self) -> Dict[str, Any]:
        """Return the plain JSON object; `from_json` reads it back."""
        return {
            "name": self.name,
            "inputs": [t.to_json() for t in self.inputs],
            "outputs": [t.to_json() for t in self.outputs],
        }

    @staticmethod
    def from_json(value: Dict[str, Any]) -> ComponentSpec:
        """Read what `to_json` wrote."""
        return ComponentSpec(
            name=str(value["name"]),
            inputs=tuple(TensorSpec.from_json(t) for t in value["inputs"]),
            outputs=tuple(TensorSpec.from_json(t) for t in value["outputs"]),
        )
