"""The opponent in adversarial distillation: a discriminator that learns to tell the student's images from the teacher's."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from edgegen.distill.losses import adversarial_discriminator_loss, adversarial_generator_loss, r1_penalty
from edgegen.errors import CheckpointError

_R1_WEIGHT, _R1_EVERY = 10.0, 16  # StyleGAN2's lazy penalty, as in content-aware GAN compression and MobileStyleGAN
_BETAS = (0.0, 0.99)


class Adversary:
    """A copy of a discriminator with its optimizer. Real are the teacher's images, so no data set is needed.

    A discriminator with more input channels than the image has (pix2pix) gets the generator's picture input in front.
    """

    def __init__(self, discriminator: nn.Module, device: torch.device) -> None:
        self.module = copy.deepcopy(discriminator).to(device).train().requires_grad_(True)
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=0.0, betas=_BETAS)

    def generator_loss(self, inputs: tuple[torch.Tensor, ...], fake: torch.Tensor) -> torch.Tensor:
        """Return the student's loss for `fake`, its images in their own value range; the discriminator gets no gradient."""
        self.module.requires_grad_(False)
        loss = adversarial_generator_loss(self.module(self._seen(inputs, fake)))
        self.module.requires_grad_(True)
        return loss

    def gradients(
        self, step: int, inputs: tuple[torch.Tensor, ...], real: torch.Tensor, fake: torch.Tensor
    ) -> list[torch.Tensor]:
        """Return the discriminator's gradients of step `step`, ready to be averaged over processes before `learn`."""
        self.optimizer.zero_grad()
        real = self._seen(inputs, real).detach().requires_grad_(step % _R1_EVERY == 0)
        real_logits, fake_logits = self.module(real), self.module(self._seen(inputs, fake.detach()))
        loss = adversarial_discriminator_loss(real_logits, fake_logits)
        if real.requires_grad:
            loss = loss + 0.5 * _R1_WEIGHT * _R1_EVERY * r1_penalty(real_logits, real)
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
        first = next(module for module in self.module.modules() if isinstance(module, nn.Conv2d))
        condition = [inputs[0], images] if inputs[0].shape[2:] == images.shape[2:] else [images]
        for shown in ([images], condition):
            if sum(tensor.shape[1] for tensor in shown) == first.in_channels:
                return torch.cat(shown, dim=1)
        raise CheckpointError(
            f"the discriminator takes {first.in_channels} channels, the image has {images.shape[1]}",
            hint="give the discriminator that was trained with this generator",
        )
