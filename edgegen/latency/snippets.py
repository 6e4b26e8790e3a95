"""What a line of a latency table stands for: a tiny generator of one layer, one pass, or only what writes a tensor.

Each starts with a 1x1 convolution that writes the tensor under test, in int8 or float, as the layer before it would; the same
without the layer is timed as well, and the difference counts. Who times them builds them for its own back end.
"""

from __future__ import annotations

import dataclasses

from edgegen.latency.work import LayerWork, Pass

FEED = 4  # channels of what is fed to the first convolution: as few as a picture has
UNSIGNED = ("relu", "relu6", "sigmoid")
ACTIVATIONS = ("tanh", "sigmoid", "relu", "elu", "silu", "gelu", "softplus")
ELEMENTWISE = (*ACTIVATIONS, "relu6", "prelu", "clamp", "scale", "batch")
BINARY = ("add", "mul", "sub")


@dataclasses.dataclass(frozen=True)
class Source:
    """Only what writes a tensor. `store` is "float", "int8" or "signed" (int8 with a zero point)."""

    channels: int
    height: int
    width: int
    store: str

    @property
    def int8(self) -> bool:
        """Whether anything in it is in int8."""
        return self.store != "float"


@dataclasses.dataclass(frozen=True)
class LinearSource:
    """What is in the snippet of a linear layer beside the layer: a tiny one on the same input."""

    inputs: int
    int8: bool


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer with what is fused into it: weighted kinds, "norm", "input" and "output"."""

    work: LayerWork
    int8: bool

    @property
    def store(self) -> str:
        """How the tensor is stored that the layer reads."""
        return ("signed" if self.work.signed else "int8") if self.int8 else "float"


@dataclasses.dataclass(frozen=True)
class PassOver:
    """A pass over a tensor of `channels`; `quantised` says whether the generator around it is."""

    item: Pass
    channels: int
    quantised: bool

    @property
    def int8(self) -> bool:
        """Whether anything in it is in int8."""
        return self.quantised and (self.item.from_int8 or self.item.to_int8)

    @property
    def store(self) -> str:
        """How the tensor is stored that it reads."""
        return "int8" if self.quantised and self.item.from_int8 else "float"


Part = Source | LinearSource | Layer | PassOver


@dataclasses.dataclass(frozen=True)
class Snippet:
    """What is timed. `cold`: with nothing of it in the caches of a core, where the other layers of a large generator leave
    nothing either. Otherwise it runs once right before each timed run, as all of a small generator stays there."""

    part: Part
    cold: bool = False


def gives_signed(ops: tuple[str, ...]) -> bool:
    """Whether values below zero come out of `ops`."""
    return not (ops and ops[-1] in UNSIGNED)
