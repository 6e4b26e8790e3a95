"""Losses of a student against a discriminator, on its logits: pure functions, means over the batch, each with its source."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def adversarial_generator_loss(fake_logits: torch.Tensor) -> torch.Tensor:
    """Return mean softplus(-logit), the non-saturating loss of the student. Source: Goodfellow et al. 2014."""
    return F.softplus(-fake_logits).mean()


def adversarial_discriminator_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Return mean softplus(-real) + mean softplus(fake). Source: Goodfellow et al. 2014; real are the teacher's images."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def hinge_generator_loss(fake_logits: torch.Tensor) -> torch.Tensor:
    """Return -mean logit. Source: Lim and Ye 2017 (geometric GAN), as in SAGAN and GAN Compression's paired recipes."""
    return -fake_logits.mean()


def hinge_discriminator_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Return mean max(0, 1 - real) + mean max(0, 1 + fake). Source: Lim and Ye 2017."""
    return F.relu(1.0 - real_logits).mean() + F.relu(1.0 + fake_logits).mean()


def r1_penalty(real_logits: torch.Tensor, real_images: torch.Tensor) -> torch.Tensor:
    """Return mean over the batch of |d logit / d image|^2; `real_images` (N, C, H, W) must require a gradient.

    Source: Mescheder et al. 2018. The graph is kept, so the penalty itself can be trained on.
    """
    (slope,) = torch.autograd.grad(real_logits.sum(), real_images, create_graph=True)
    return slope.square().sum(dim=(1, 2, 3)).mean()
