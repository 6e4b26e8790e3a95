"""A teacher, a student and inputs that are small enough to train in a fraction of a second."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from edgegen.generator import Generator
from edgegen.graph import trace
from edgegen.recipe import AugmentConfig, DistillConfig, LossConfig
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec

SIDE = 16
CONFIG = DistillConfig(
    batch=4,
    learning_rate=5e-3,
    warmup_steps=2,
    ema=0.9,
    checkpoint_every=5,
    evaluate_every=5,
    held_out=3,
    losses=LossConfig(feature=0.1),
)


class Painter(nn.Module):
    """Halves, works and doubles again: two resolutions, as most image generators have."""

    def __init__(self, width: int, norm: type[nn.Module] = nn.InstanceNorm2d) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.stem_act = nn.ReLU()
        self.down = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.norm = norm(width, affine=True)
        self.act = nn.ReLU()
        self.up = nn.ConvTranspose2d(width, width, 4, stride=2, padding=1)
        self.up_act = nn.ReLU()
        self.head = nn.Conv2d(width, 3, 3, padding=1)
        self.tanh = nn.Tanh()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map (N, 3, H, W) to (N, 3, H, W) in [-1, 1]."""
        x = self.act(self.norm(self.down(self.stem_act(self.stem(image)))))
        return self.tanh(self.head(self.up_act(self.up(x))))


def painter(width: int, *, seed: int, norm: type[nn.Module] = nn.InstanceNorm2d) -> Generator:
    """Return a generator of 16x16 images with weights drawn from `seed`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = trace(Painter(width, norm))
    image = TensorSpec("image", Kind.IMAGE, (3, SIDE, SIDE), Layout.CHW, low=-1.0, high=1.0)
    spec = ComponentSpec("generator", (image,), (dataclasses.replace(image, name="picture"),))
    return Generator(module=module, spec=spec, family="painter", hyperparameters={}, source={})


@dataclasses.dataclass(frozen=True)
class SmoothImages:
    """Random smooth images, a function of (seed, step): behaves as `edgegen.data.Inputs` does."""

    seed: int = 3
    description: str = "smooth images drawn from a seed"

    @property
    def digest(self) -> str:
        """Tell these inputs from others."""
        return f"smooth images {self.seed}"

    def train(self, step: int, batch: int, augment: AugmentConfig) -> tuple[torch.Tensor, ...]:
        """Return (batch, 3, 16, 16) in [-1, 1]."""
        if augment.views:
            return (torch.cat([self._smooth(10_000_000 + place, 1) for place in self.positions(step, batch, augment)]),)
        return (self._smooth(step, batch),)

    def _smooth(self, number: int, count: int) -> torch.Tensor:
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        coarse = torch.rand((count, 3, 4, 4), generator=random) * 2 - 1
        return F.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear", align_corners=False)

    def train_truth(self, step: int, batch: int, augment: AugmentConfig) -> None:
        """Return None: nothing was reduced."""

    def pool_size(self, augment: AugmentConfig) -> int:
        """Return 6 per view."""
        return 6 * augment.views

    def positions(self, step: int, batch: int, augment: AugmentConfig) -> list[int]:
        """Walk through the pool."""
        return [index % self.pool_size(augment) for index in range(step * batch, (step + 1) * batch)]

    def held_out(self, count: int) -> list[tuple[np.ndarray, ...]]:
        """Return images of steps that training never reaches."""
        return [(self.train(-1 - i, 1, AugmentConfig())[0].numpy(),) for i in range(count)]

    def calibration(self, count: int | None = None) -> list[tuple[np.ndarray, ...]]:
        """Return training images, one at a time."""
        return [(self.train(i, 1, AugmentConfig())[0].numpy(),) for i in range(count or 8)]

    def truth(self, count: int) -> None:
        """Return None: nothing was reduced."""


def weights(generator: Generator) -> dict[str, torch.Tensor]:
    """Return a copy of all tensors of `generator`."""
    return {name: tensor.clone() for name, tensor in generator.module.state_dict().items()}


def same_weights(a: Generator, b: Generator) -> bool:
    """Return whether all tensors are equal, bit by bit."""
    ours, theirs = weights(a), weights(b)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
