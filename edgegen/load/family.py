"""What a family of generators is, and how one is recognised: names and shapes of tensors, read one by one.

A family reads a state through `Evidence`. Every read either confirms the family or raises `DiffersError` with the key that told
it apart; in the end no tensor may be left over. So two families can only both match a state if they read the very same keys.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import nn

from edgegen.errors import CheckpointError
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec

State = Mapping[str, torch.Tensor]
NORMS = ("batch", "instance", "instance-affine", "none")
_NORM_PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclasses.dataclass(frozen=True)
class Match:
    """A recognised state. `hyperparameters` are plain JSON values; `assumed` says what tensors cannot tell and convention did."""

    hyperparameters: Mapping[str, Any]
    assumed: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """Why a state is not of a family: the key that told them apart; `score` is the share of the state's keys that did fit."""

    key: str
    reason: str
    score: float


class GeneratorFamily(Protocol):
    """One way in which people build and name a generator."""

    name: str
    title: str

    def detect(self, state: State) -> Match | Mismatch:
        """Say whether `state` (tensor names as its authors wrote them, wrappers and prefixes removed) is of this family."""
        ...

    def build(self, state: State, match: Match) -> nn.Module:
        """Return the generator in float32 with every tensor that inference needs loaded."""
        ...

    def spec(self, match: Match, resolution: tuple[int, int] | None) -> ComponentSpec:
        """Return inputs and outputs at `resolution` (height, width) of the input; None takes the family's default."""
        ...


class DiffersError(Exception):
    """The state is not of the family that is reading it."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key, self.reason = key, reason


class Evidence:
    """A state that is being read: remembers which keys a family has accounted for."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._seen: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._state

    def numbers(self, root: str) -> list[int]:
        """Return the sorted numbers N of all keys that begin with `root` and "N."."""
        found = (re.match(re.escape(root) + r"(\d+)\.", key) for key in self._state)
        return sorted({int(match.group(1)) for match in found if match})

    def rank(self, key: str) -> int:
        """Return the number of axes of `key` without accounting for it; 0 if it is not there."""
        return self._state[key].ndim if key in self._state else 0

    def search(self, pattern: str, *, what: str) -> re.Match[str]:
        """Return the match of the first key that fits `pattern` entirely; `what` names it for the user if there is none."""
        for key in self._state:
            if found := re.fullmatch(pattern, key):
                return found
        raise DiffersError(what, "missing")

    def shape(self, key: str, rank: int) -> tuple[int, ...]:
        """Account for `key` and return its shape, which must have `rank` axes."""
        if key not in self._state:
            raise DiffersError(key, "missing")
        shape = tuple(self._state[key].shape)
        if len(shape) != rank:
            raise DiffersError(key, f"has {len(shape)} axes, not {rank}")
        self._seen.add(key)
        return shape

    def vector(self, key: str, length: int) -> None:
        """Account for `key`, a vector of `length` values."""
        self.require(self.shape(key, 1) == (length,), key, f"does not hold {length} values")

    def bias(self, prefix: str, length: int) -> bool:
        """Account for `prefix`bias if it is there; return whether it is."""
        if f"{prefix}bias" not in self._state:
            return False
        self.vector(f"{prefix}bias", length)
        return True

    def conv(self, prefix: str, channels: int | None = None, *, transposed: bool = False) -> tuple[int, int, int]:
        """Account for `prefix`weight, a square kernel that takes `channels`; return (in, out, kernel). The bias is apart."""
        first, second, height, width = self.shape(f"{prefix}weight", 4)
        taken, given = (first, second) if transposed else (second, first)
        self.require(height == width, f"{prefix}weight", f"has a {height}x{width} kernel, not a square one")
        self.require(channels in (None, taken), f"{prefix}weight", f"takes {taken} channels, the layer before gives {channels}")
        return taken, given, height

    def keeping(self, prefix: str, width: int) -> None:
        """Account for `prefix`weight, a 3x3 convolution from `width` channels to as many."""
        _, given, kernel = self.conv(prefix, width)
        self.require((given, kernel) == (width, 3), f"{prefix}weight", "is not a 3x3 convolution that keeps its channels")

    def steps(self, prefix: str, width: int) -> int:
        """Account for `prefix`weight, the 3x3 convolution before a PixelShuffle back to `width`; return its factor."""
        _, given, kernel = self.conv(prefix, width)
        factor = math.isqrt(given // width)
        fits = kernel == 3 and factor > 1 and given == width * factor**2
        self.require(fits, f"{prefix}weight", f"gives {given} channels with kernel {kernel}: no PixelShuffle fits")
        return factor

    def norm(self, prefix: str, channels: int) -> str:
        """Account for the tensors of a normalisation at `prefix`; return its kind in NORMS ("none": there are no tensors)."""
        parts = [part for part in _NORM_PARTS if f"{prefix}{part}" in self._state]
        for part in parts:
            if part == "num_batches_tracked":
                self._seen.add(f"{prefix}{part}")
            else:
                self.vector(f"{prefix}{part}", channels)
        if "weight" in parts:
            self.require("bias" in parts, f"{prefix}bias", "missing")
            self.require(("running_mean" in parts) == ("running_var" in parts), f"{prefix}running_var", "missing")
            # InstanceNorm with affine and running statistics has the same tensors as BatchNorm; nobody we know ships it.
            return "batch" if "running_mean" in parts else "instance-affine"
        return "instance" if "running_mean" in parts else "none"

    def ignore(self, *prefixes: str) -> None:
        """Account for every key under `prefixes`: tensors that inference does not need."""
        self._seen.update(key for key in self._state if key.startswith(prefixes))

    def require(self, condition: bool, key: str, reason: str) -> None:
        """Raise DiffersError at `key` unless `condition` holds."""
        if not condition:
            raise DiffersError(key, reason)

    def finish(self) -> None:
        """Raise DiffersError at the first key that nobody accounted for."""
        for key in self._state:
            self.require(key in self._seen, key, "not a tensor of this family")

    def score(self) -> float:
        """Return the share of keys accounted for."""
        return len(self._seen) / max(len(self._state), 1)


def compare(state: State, deduce: Callable[[Evidence], Match]) -> Match | Mismatch:
    """Run `deduce` over `state` and turn what it finds into an answer; all tensors must be accounted for."""
    evidence = Evidence(state)
    try:
        match = deduce(evidence)
        evidence.finish()
    except DiffersError as difference:
        return Mismatch(difference.key, difference.reason, evidence.score())
    return match


def fill(module: nn.Module, tensors: State) -> nn.Module:
    """Load the tensors that `module` names, as float32; each must be there and fit. BatchNorm's counters are left out."""
    wanted = {key: value for key, value in module.state_dict().items() if not key.endswith("num_batches_tracked")}
    # clone: a tied or memory-mapped tensor must not be shared with the caller's state
    chosen = {key: tensors[key].detach().clone().to(value.dtype) for key, value in wanted.items() if key in tensors}
    module.load_state_dict(chosen, strict=True)  # torch itself fills in counters of a state without a format version
    return module.eval()


def make_norm(kind: str, channels: int, *, eps: float = 1e-5) -> nn.Module:
    """Return the normalisation layer for a kind of NORMS; running statistics of InstanceNorm are never used."""
    match kind:
        case "batch":
            return nn.BatchNorm2d(channels, eps=eps)
        case "instance" | "instance-affine":
            return nn.InstanceNorm2d(channels, eps=eps, affine=kind == "instance-affine")
        case _:
            return nn.Identity()


def picture(name: str, channels: int, size: tuple[int, int], values: tuple[float, float]) -> TensorSpec:
    """Return the spec of an image (1 or 3 channels, black and white at `values`) or, for other counts, a one-hot label map."""
    is_image = channels in (1, 3)
    low, high = values if is_image else (0.0, 1.0)
    kind = Kind.IMAGE if is_image else Kind.LABEL_MAP
    return TensorSpec(name, kind, (channels, *size), Layout.CHW, low=low, high=high)


def latent(length: int, values: tuple[float, float] | None = None) -> TensorSpec:
    """Return the spec of a latent vector: unit normal, or uniform between two `values`."""
    low, high = values or (None, None)
    return TensorSpec("latent", Kind.LATENT, (length,), Layout.D, low=low, high=high)


def component(taken: TensorSpec, given: TensorSpec) -> ComponentSpec:
    """Return the spec of a generator with one input and one output."""
    return ComponentSpec("generator", (taken,), (given,))


def choose_size(
    resolution: tuple[int, int] | None, default: tuple[int, int], fits: Callable[[int], bool], title: str
) -> tuple[int, int]:
    """Return (height, width) to run at. Raises CheckpointError, with sizes that do fit, if a side does not suit the strides."""
    size = resolution or default
    for side in size:
        if not fits(side):
            near = [n for n in range(1, 2 * side + 1024) if fits(n)]
            below, above = [n for n in near if n < side][-1:], [n for n in near if n > side][:1]
            known = " or ".join(str(n) for n in below + above)
            raise CheckpointError(f"{side} pixels do not suit the strides of this {title}", hint=f"sides that do: {known}")
    return size


def fixed_size(resolution: tuple[int, int] | None, size: tuple[int, int], title: str) -> tuple[int, int]:
    """Return `size`, the only one a latent generator can give. Raises CheckpointError if another one is asked for."""
    if resolution not in (None, size):
        raise CheckpointError(
            f"this {title} draws {size[1]}x{size[0]} pictures, not {resolution[1]}x{resolution[0]}",
            hint="leave --resolution out",
        )
    return size
