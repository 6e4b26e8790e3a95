"""How near the student is to the teacher on inputs that neither training nor calibration sees."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import nn

from edgegen.distill.losses import psnr_db, ssim, visible
from edgegen.spec import TensorSpec


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """Means over the held-out inputs."""

    psnr_db: float
    ssim: float


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Held-out inputs in batches, and the teacher's images of them, float32 (N, C, H, W) in [0, 1], both on the CPU."""

    inputs: tuple[tuple[torch.Tensor, ...], ...]
    images: tuple[torch.Tensor, ...]
    output: TensorSpec

    @torch.no_grad()
    def fidelity(self, student: nn.Module, device: torch.device) -> Fidelity:
        """Return how near `student`'s images are to the teacher's, computed in float32."""
        found: list[tuple[float, float]] = []
        for batch, image in zip(self.inputs, self.images, strict=True):
            ours = visible(student(*(tensor.to(device) for tensor in batch)), self.output)
            theirs = image.to(device)
            found.extend(zip(psnr_db(ours, theirs).tolist(), ssim(ours, theirs).tolist(), strict=True))
        return Fidelity(*(sum(values) / len(values) for values in zip(*found, strict=True)))

    @torch.no_grad()
    def pairs(self, student: nn.Module, device: torch.device, count: int) -> np.ndarray:
        """Return a picture (H, W, 3), uint8: up to `count` rows of teacher | student."""
        ours = visible(student(*(tensor.to(device) for tensor in self.inputs[0])), self.output).cpu()
        rows = torch.cat([self.images[0], ours], dim=3)[:count]
        grid = torch.cat(list(rows), dim=1).clamp(0.0, 1.0)[:3]
        grid = grid.expand(3, -1, -1) if len(grid) < 3 else grid
        return (grid * 255.0).round().byte().permute(1, 2, 0).contiguous().numpy()


@torch.no_grad()
def hold_out(
    teacher: nn.Module, inputs: list[tuple[np.ndarray, ...]], output: TensorSpec, *, device: torch.device, batch: int
) -> HeldOut:
    """Run `teacher`, which returns (image, tap, ...), on `inputs` (batch axis 1 each), `batch` at a time, and keep its images."""
    batches, images = [], []
    for start in range(0, len(inputs), batch):
        chunk = inputs[start : start + batch]
        tensors = tuple(torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*chunk, strict=True))
        batches.append(tensors)
        images.append(visible(teacher(*(tensor.to(device) for tensor in tensors))[0], output).cpu())
    return HeldOut(tuple(batches), tuple(images), output)
