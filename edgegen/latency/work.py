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


def sub_pixel(work: LayerWork) -> LayerWork | None:
    """Return a transposed convolution in the form that exports may give it (edgegen.rewrite.conv_transpose); None for others.

    A convolution over the small picture gives all phases, a shuffle interleaves them: ceil(k / s) taps, and for even kernels one
    more row that is cropped. On a single pixel it is a linear layer. Paddings are not known here: those of "same" are assumed.
    """
    if work.kind != "transposed" or work.groups > 1:
        return None
    size = (work.height, work.width)
    small = tuple(max(1, n // s) for n, s in zip(size, work.stride, strict=True))
    if small == (1, 1) or (work.stride == (1, 1) and work.kernel == size):
        return _on_one_pixel(work)
    extra = tuple(int(s > 1 and k % s == 0 and (k - s) % (2 * s) != 0) for k, s in zip(work.kernel, work.stride, strict=True))
    taps = tuple(-(-k // s) for k, s in zip(work.kernel, work.stride, strict=True))
    height, width = (n + e for n, e in zip(small, extra, strict=True))
    phases = math.prod(work.stride)
    if phases == 1:
        return dataclasses.replace(work, kind="conv", signed=False)
    shuffle = Pass((f"shuffle {work.stride[0]} {work.stride[1]}", *(() if any(extra) else work.fused)), height, width,
                   to_int8=work.to_int8 and not any(extra))  # fmt: skip
    passes = [shuffle]
    if any(extra):
        border = " ".join(str(e) for e in extra for _ in range(2))
        shuffled = (height * work.stride[0], width * work.stride[1])
        passes.append(Pass((f"crop {border}", *work.fused), *shuffled, (1, phases), to_int8=work.to_int8))
    return LayerWork(
        "conv", work.inputs, work.outputs * phases, (taps[0], taps[1]), (1, 1), 1, height, width,
        passes=(*passes, *_of_more_outputs(work, phases)),
    )  # fmt: skip


def _on_one_pixel(work: LayerWork) -> LayerWork:
    pixels = work.height * work.width
    ops = (Pass(work.fused, work.height, work.width, (1, pixels), to_int8=work.to_int8),) if work.fused else ()
    return LayerWork(
        "linear", work.inputs, work.outputs * pixels, (1, 1), (1, 1), 1, 1, 1, passes=(*ops, *_of_more_outputs(work, pixels))
    )


def _of_more_outputs(work: LayerWork, times: int) -> list[Pass]:
    """Return the passes of `work` as those of a layer that gives `times` as many outputs."""
    return [dataclasses.replace(p, per_output=(p.per_output[0], p.per_output[1] * times)) for p in work.passes]
