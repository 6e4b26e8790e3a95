"""What a generator does, as latency models see it: weighted layers, and the passes over tensors between them."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Pass:
    """One trip over a layer's result before the next layer reads it: a norm, a border, a shuffle, an addition.

    `ops` are tokens (`edgegen.latency.snippets` knows them all); the first one makes the pass, the others run in it. `height` and
    `width` are of the tensor that is read; it has `outputs * per_output[0] // per_output[1]` channels, `outputs` being the
    layer's. `from_int8` and `to_int8` say what it reads and stores when the generator is quantised: else it is float.
    """

    ops: tuple[str, ...]
    height: int
    width: int
    per_output: tuple[int, int] = (1, 1)
    from_int8: bool = False
    to_int8: bool = False

    def channels(self, outputs: int) -> int:
        """Return the channels that it reads when the layer has `outputs`."""
        return max(1, outputs * self.per_output[0] // self.per_output[1])

    def values(self, outputs: int) -> tuple[int, int]:
        """Return how many values it reads and writes."""
        read = self.channels(outputs) * self.height * self.width
        name, *numbers = self.ops[0].split()
        match name:
            case "upsample":
                return read, read * math.prod(map(int, numbers[1:]))
            case "max_pool" | "avg_pool":
                return read, read // math.prod(map(int, numbers[2:4]))
            case "add" | "mul" | "sub":
                return 2 * read, read
            case _:
                return read, read


@dataclasses.dataclass(frozen=True)
class LayerWork:
    """One layer with the numbers its latency depends on; spatial sizes are of the output, batch is 1.

    `kind` is "conv", "transposed", "linear" or "norm"; "input" and "output" are what a call does to hand tensors over. All but
    the first three have `inputs` == `outputs` channels. `fused` are the elementwise operations that run with the layer, in
    order, as tokens; `passes` follow it. `to_int8` says whether the result is stored in int8 when the generator is quantised,
    `signed` whether the layer reads values below zero.
    """

    kind: str
    inputs: int
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    groups: int
    height: int
    width: int
    fused: tuple[str, ...] = ()
    passes: tuple[Pass, ...] = ()
    to_int8: bool = False
    signed: bool = False

    @property
    def weighted(self) -> bool:
        """Whether the layer multiplies by weights."""
        return self.kind in ("conv", "transposed", "linear")

    @property
    def macs(self) -> int:
        """Multiply-accumulates; 0 for all that has no weights."""
        if not self.weighted:
            return 0
        taps = math.prod(self.kernel) * self.inputs * self.outputs // self.groups * self.height * self.width
        return taps // math.prod(self.stride) if self.kind == "transposed" else taps

    @property
    def values_moved(self) -> int:
        """Tensor values that the layer itself reads and writes, weights included."""
        pixels = self.height * self.width
        scale = math.prod(self.stride)
        source = self.inputs * (pixels // scale if self.kind == "transposed" else pixels * scale)
        weights = math.prod(self.kernel) * self.inputs * self.outputs // self.groups if self.weighted else 0
        return source + self.outputs * pixels + weights
