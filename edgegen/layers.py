"""Leaf layers that torch lacks and generators need. Each is a pure function of its tensors, with static settings."""

from __future__ import annotations

import torch
from torch import nn


class Crop2d(nn.Module):
    """Cut (top, bottom, left, right) rows and columns off an image batch (N, C, H, W)."""

    def __init__(self, top: int, bottom: int, left: int, right: int) -> None:
        super().__init__()
        self.top, self.bottom, self.left, self.right = top, bottom, left, right

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, C, H - top - bottom, W - left - right)."""
        return x[:, :, self.top : x.shape[2] - self.bottom, self.left : x.shape[3] - self.right]


class Reshape(nn.Module):
    """Give each sample the static shape `shape`; the batch axis stays."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, ...) to (N, *shape)."""
        return x.reshape((x.shape[0], *self.shape))


class Scale(nn.Module):
    """x * factor + offset with two constants: changes of value range, such as [-1, 1] to [0, 1]."""

    def __init__(self, factor: float, offset: float) -> None:
        super().__init__()
        self.factor, self.offset = float(factor), float(offset)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map every value; the shape stays."""
        return x * self.factor + self.offset


class Clamp(nn.Module):
    """Limit values to [low, high]."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = float(low), float(high)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Limit every value; the shape stays."""
        return torch.clamp(x, self.low, self.high)


class DepthToSpace(nn.Module):
    """PixelShuffle with different factors for rows and columns."""

    def __init__(self, rows: int, cols: int) -> None:
        super().__init__()
        self.rows, self.cols = rows, cols

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C * rows * cols, H, W) to (N, C, H * rows, W * cols)."""
        n, c, h, w = x.shape
        depth = c // (self.rows * self.cols)
        x = x.reshape(n, depth, self.rows, self.cols, h, w).permute(0, 1, 4, 2, 5, 3)
        return x.reshape(n, depth, h * self.rows, w * self.cols)


class PixelsIn(nn.Module):
    """uint8 pictures to float images with the values 0..255."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map uint8 (N, H, W, C) to float32 (N, C, H, W)."""
        return x.permute(0, 3, 1, 2).float()


class PixelsOut(nn.Module):
    """Float images to uint8 pictures: x * factor + offset, rounded and limited to 0..255."""

    def __init__(self, factor: float, offset: float) -> None:
        super().__init__()
        self.factor, self.offset = float(factor), float(offset)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map float (N, C, H, W) to uint8 (N, H, W, C)."""
        x = torch.clamp(x * self.factor + self.offset, 0.0, 255.0)
        return torch.round(x).permute(0, 2, 3, 1).to(torch.uint8)
