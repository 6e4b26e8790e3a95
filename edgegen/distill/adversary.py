"""The opponent in adversarial distillation: a discriminator that learns to tell the student's images from the teacher's."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from edgegen.distill.adversarial_losses import (
    adversarial_discriminator_loss,
    adversarial_generator_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    r1_penalty,
)
from edgegen.distill.discriminator import Discriminator, new_discriminator, shrink_discriminator
from edgegen.errors import CheckpointError, RecipeError
from edgegen.pictures import visible
from edgegen.recipe import AdversarialKind, AdversaryConfig, DistillConfig, Opponent
from edgegen.spec import TensorSpec

_BETAS = (0.0, 0.99)


class Adversary:
    """A copy of a discriminator with its optimizer. Real are the teacher's images, so no data set is needed.

    A discriminator with more input channels than the image has (pix2pix) gets the generator's picture input in front. With
    `shown_as` given, images in that spec's value range are shown in [-1, 1]; without, as they are.
    """

    def __init__(
        self,
        discriminator: nn.Module,
        device: torch.device,
        config: AdversaryConfig | None = None,
        shown_as: TensorSpec | None = None,
    ) -> None:
        self.module = copy.deepcopy(discriminator).to(device).train().requires_grad_(True)
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=0.0, betas=_BETAS)
        self._config, self._shown_as = config or AdversaryConfig(), shown_as

    def generator_loss(self, inputs: tuple[torch.Tensor, ...], fake: torch.Tensor) -> torch.Tensor:
        """Return the student's loss for `fake`, its images in their own value range; the discriminator gets no gradient."""
        self.module.requires_grad_(False)
        logits = self.module(self._seen(inputs, fake))
        self.module.requires_grad_(True)
        match self._config.kind:
            case AdversarialKind.NON_SATURATING:
                return adversarial_generator_loss(logits)
            case AdversarialKind.HINGE:
                return hinge_generator_loss(logits)

    def gradients(
        self, step: int, inputs: tuple[torch.Tensor, ...], real: torch.Tensor, fake: torch.Tensor
    ) -> list[torch.Tensor]:
        """Return the discriminator's gradients of step `step`, ready to be averaged over processes before `learn`."""
        self.optimizer.zero_grad()
        is_penalised = self._config.r1 > 0 and step % self._config.r1_every == 0
        real = self._seen(inputs, real).detach().requires_grad_(is_penalised)
        real_logits, fake_logits = self.module(real), self.module(self._seen(inputs, fake.detach()))
        match self._config.kind:
            case AdversarialKind.NON_SATURATING:
                loss = adversarial_discriminator_loss(real_logits, fake_logits)
            case AdversarialKind.HINGE:
                loss = hinge_discriminator_loss(real_logits, fake_logits)
        if is_penalised:
            loss = loss + 0.5 * self._config.r1 * self._config.r1_every * r1_penalty(real_logits, real)
        loss.backward()
        return [parameter.grad for parameter in self.module.parameters() if parameter.grad is not None]

    def learn(self, learning_rate: float) -> None:
        """Take one step with the gradients that are there."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resumed run needs."""
        return {"module": self.module.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _seen(self, inputs: tuple[torch.Tensor, ...], images: torch.Tensor) -> torch.Tensor:
        if self._shown_as is not None:
            return visible(images, self._shown_as) * 2.0 - 1.0
        first = next(module for module in self.module.modules() if isinstance(module, nn.Conv2d))
        condition = [inputs[0], images] if inputs[0].shape[2:] == images.shape[2:] else [images]
        for shown in ([images], condition):
            if sum(tensor.shape[1] for tensor in shown) == first.in_channels:
                return torch.cat(shown, dim=1)
        raise CheckpointError(
            f"the discriminator takes {first.in_channels} channels, the image has {images.shape[1]}",
            hint="give the discriminator that was trained with this generator",
        )


def check_adversary(config: DistillConfig, discriminator: nn.Module | None) -> None:
    """Raise RecipeError when the recipe wants a discriminator that is not there, or a new one beside one that is."""
    if not config.losses.adversarial:
        return
    is_new = config.adversary.discriminator is Opponent.NEW
    if discriminator is None and not is_new:
        raise RecipeError("losses.adversarial is set but there is no discriminator", hint="give its checkpoint, or set it to 0")
    if discriminator is not None and is_new:
        raise RecipeError('a discriminator is given but adversary.discriminator is "new"', hint="keep one of the two")


def open_adversary(
    config: DistillConfig, discriminator: nn.Module | None, output: TensorSpec, device: torch.device, *, share: float, seed: int
) -> Adversary | None:
    """Return the opponent that the recipe asks for; None without an adversarial loss.

    `share` is the student's part of the teacher's width (`width_share`), `seed` draws the weights of a new discriminator.
    """
    check_adversary(config, discriminator)
    if not config.losses.adversarial:
        return None
    if discriminator is None:
        side = min(output.height, output.width, config.augment.crop or output.height)
        opponent = new_discriminator(output.shape[0], side, share=share, seed=seed)
        return Adversary(opponent, device, config.adversary, output)
    if config.adversary.discriminator is Opponent.SHRUNK and isinstance(discriminator, Discriminator):
        discriminator = shrink_discriminator(discriminator, share)
    return Adversary(discriminator, device, config.adversary)


def width_share(students: Iterable[nn.Module], teacher: nn.Module) -> float:
    """Return the widest student's part of the teacher's width, at most 1: the root of that of the parameters.

    A convolution has inputs x outputs of them, so a student of half the width has a quarter.
    """
    ours, theirs = max(map(_count, students)), _count(teacher)
    return min(1.0, math.sqrt(ours / max(1, theirs)))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
