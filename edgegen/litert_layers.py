"""Layers as LiteRT wants them: each equals a torch layer up to float rounding and converts to operations that XNNPACK takes.

They live only between `lower_for_litert` and the converter, so they are not in the stored vocabulary of `edgegen.graph`.
Transposes are written so that the converter's channels-last pass cancels them; no tensor has more than four axes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class EdgePad(nn.Module):
    """Reflection, replication or circular padding by slices and concatenations: MIRROR_PAD is never delegated.

    XNNPACK takes at most 5 inputs per CONCATENATION and the converter merges neighbouring ones along the same axis, so an
    edge grows by at most 2 pixels per step and the steps alternate between H and W.
    """

    def __init__(self, padding: tuple[int, int, int, int], mode: str) -> None:
        super().__init__()
        self.padding, self.mode = padding, mode  # (left, right, top, bottom), as torch pads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, C, H + top + bottom, W + left + right)."""
        left, right, top, bottom = self.padding
        wanted, sizes = {2: (top, bottom), 3: (left, right)}, {2: x.shape[2], 3: x.shape[3]}
        done = {2: [0, 0], 3: [0, 0]}
        while any(tuple(done[axis]) != wanted[axis] for axis in (2, 3)):
            for axis in (2, 3):
                before, after = (min(2, w - d) for w, d in zip(wanted[axis], done[axis], strict=True))
                x = self._grow(x, axis, sizes[axis], done[axis], (before, after))
                done[axis] = [done[axis][0] + before, done[axis][1] + after]
        return x

    def _grow(self, x: torch.Tensor, axis: int, size: int, done: list[int], step: tuple[int, int]) -> torch.Tensor:
        """Add `step` pixels before and after along `axis`; `done` are there already around the first `size`."""
        start = done[0]
        first = [self._source(-(done[0] + i), size) for i in range(step[0], 0, -1)]
        last = [self._source(size - 1 + done[1] + i, size) for i in range(1, step[1] + 1)]
        parts = [*(x.narrow(axis, start + i, 1) for i in first), x, *(x.narrow(axis, start + i, 1) for i in last)]
        return torch.cat(parts, axis) if len(parts) > 1 else x

    def _source(self, index: int, size: int) -> int:
        """Return which original pixel the padded pixel at `index` copies."""
        if self.mode == "replicate":
            return min(max(index, 0), size - 1)
        if self.mode == "circular":
            return index % size
        return -index if index < 0 else 2 * (size - 1) - index


class ValidConvTranspose(nn.Module):
    """A transposed convolution without padding, then a crop: TRANSPOSE_CONV knows no other paddings than SAME and VALID.

    The kernel is spread by the dilation and grows by zeros where the output needs rows that VALID does not give.
    """

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.stride, self.padding, self.groups = _pair(layer.stride), _pair(layer.padding), layer.groups
        kernel, dilation, added = _pair(layer.kernel_size), _pair(layer.dilation), _pair(layer.output_padding)
        spread = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
        extra = [max(0, o - p) for o, p in zip(added, self.padding, strict=True)]
        size = [max(k + e, s) for k, e, s in zip(spread, extra, self.stride, strict=True)]
        weight = torch.zeros(*layer.weight.shape[:2], *size, dtype=layer.weight.dtype)
        weight[:, :, : spread[0] : dilation[0], : spread[1] : dilation[1]] = layer.weight.detach()
        self.weight = nn.Parameter(weight)
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())
        self.smaller = [o - 2 * p + k for o, p, k in zip(added, self.padding, spread, strict=True)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to what the torch layer gives."""
        height, width = ((n - 1) * s + k for n, s, k in zip(x.shape[2:], self.stride, self.smaller, strict=True))
        y = F.conv_transpose2d(x, self.weight, self.bias, self.stride, groups=self.groups)
        top, left = self.padding
        return y[:, :, top : top + height, left : left + width]


class MeanVarianceNorm(nn.Module):
    """InstanceNorm2d in plain 4-D arithmetic: the default decomposition wraps each norm in two transposes."""

    def __init__(self, layer: nn.InstanceNorm2d) -> None:
        super().__init__()
        self.eps = layer.eps
        self.weight = nn.Parameter(layer.weight.detach().reshape(1, -1, 1, 1).clone()) if layer.affine else None
        self.bias = nn.Parameter(layer.bias.detach().reshape(1, -1, 1, 1).clone()) if layer.affine else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to the same shape."""
        centred = x - x.mean((2, 3), keepdim=True)
        scale = torch.rsqrt((centred * centred).mean((2, 3), keepdim=True) + self.eps)
        if self.weight is None or self.bias is None:
            return centred * scale
        return centred * (scale * self.weight) + self.bias


class ChannelAffine(nn.Module):
    """x * weight + bias per channel: what a 1x1 depthwise convolution computes, which dynamic int8 leaves to a slow kernel."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach().reshape(1, -1, 1, 1).clone())
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().reshape(1, -1, 1, 1).clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to the same shape."""
        y = x * self.weight
        return y if self.bias is None else y + self.bias


class BlocksToSpace(nn.Module):
    """Depth-to-space with one transpose. `ordered` channels are (rows, cols, C), otherwise (C, rows, cols) as torch has them."""

    def __init__(self, rows: int, cols: int, *, ordered: bool) -> None:
        super().__init__()
        self.rows, self.cols, self.ordered = rows, cols, ordered

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C * rows * cols, H, W) to (N, C, H * rows, W * cols)."""
        n, channels, h, w = x.shape
        depth = channels // (self.rows * self.cols)
        y = x.permute(0, 2, 3, 1)
        if not self.ordered:
            y = y.reshape(n * h, w, depth, self.rows * self.cols).transpose(2, 3)
        y = y.reshape(n * h, w, self.rows, self.cols * depth).transpose(1, 2)
        return y.reshape(n, h * self.rows, w * self.cols, depth).permute(0, 3, 1, 2)


class SpaceToBlocks(nn.Module):
    """Space-to-depth with one transpose. `ordered` makes channels (factor, factor, C), otherwise torch's (C, factor, factor)."""

    def __init__(self, factor: int, *, ordered: bool) -> None:
        super().__init__()
        self.factor, self.ordered = factor, ordered

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, C * factor^2, H / factor, W / factor)."""
        n, channels, height, width = x.shape
        h, w, f = height // self.factor, width // self.factor, self.factor
        y = x.permute(0, 2, 3, 1).reshape(n * h, f, w, f * channels).transpose(1, 2)
        if not self.ordered:
            y = y.reshape(n * h, w, f * f, channels).transpose(2, 3)
        return y.reshape(n, h, w, f * f * channels).permute(0, 3, 1, 2)


class FeaturesToMap(nn.Module):
    """Give features that are ordered (H, W, C) their image shape; the transpose is one the converter cancels."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, H * W * C) to (N, C, H, W)."""
        channels, height, width = self.shape
        return x.reshape(x.shape[0], height, width, channels).permute(0, 3, 1, 2)


class RepeatPixels(nn.Module):
    """Nearest upsampling by whole factors: RESIZE_NEAREST_NEIGHBOR is never delegated, CONCATENATION and RESHAPE are."""

    def __init__(self, rows: int, cols: int) -> None:
        super().__init__()
        self.rows, self.cols = rows, cols

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, C, H * rows, W * cols)."""
        n, channels, h, w = x.shape
        y = x.permute(0, 2, 3, 1)
        if self.cols > 1:
            y = torch.cat([y] * self.cols, 3).reshape(n, h, w * self.cols, channels)
        if self.rows > 1:
            y = y.reshape(n, h, 1, w * self.cols * channels)
            y = torch.cat([y] * self.rows, 2)
        return y.reshape(n, h * self.rows, w * self.cols, channels).permute(0, 3, 1, 2)


class PixelsInLast(nn.Module):
    """PixelsIn with the transpose behind the cast, where the converter cancels it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map uint8 (N, H, W, C) to float32 (N, C, H, W)."""
        return x.float().permute(0, 3, 1, 2)


class PixelsOutLast(nn.Module):
    """PixelsOut with the transpose in front of all else, where the converter cancels it."""

    def __init__(self, factor: float, offset: float) -> None:
        super().__init__()
        self.factor, self.offset = factor, offset

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map float (N, C, H, W) to uint8 (N, H, W, C)."""
        y = torch.clamp(x.permute(0, 2, 3, 1) * self.factor + self.offset, 0.0, 255.0)
        return torch.round(y).to(torch.uint8)


class UnitClamp(nn.Module):
    """Limit values to [0, 1]: as a clamp it becomes RELU_0_TO_1, which is never delegated; two RELUs fuse into what is there."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Limit every value; the shape stays."""
        return F.relu6(x * 6.0) * (1.0 / 6.0)


class ExponentialUnit(nn.Module):
    """ELU without a comparison and a SELECT, which are never delegated."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map every value; the shape stays."""
        return F.relu(x) + (torch.exp(-F.relu(-x)) - 1.0) * self.alpha


def _pair(value: str | tuple[int, ...]) -> tuple[int, int]:
    """Narrow what torch declares for all convolutions to what a transposed 2-D one has."""
    rows, cols = value
    return (int(rows), int(cols))
