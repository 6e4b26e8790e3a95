"""What the student is trained to make small: pure functions of tensors, each with its source.

Images are float batches (N, C, H, W), 0 = black, 1 = white (`visible` brings a generator's output there), so one weight means
the same for every generator. Every loss is a scalar, a mean over the batch: means over equal shards average to the whole.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from edgegen.spec import TensorSpec

_C1, _C2 = 0.01**2, 0.03**2  # Wang et al. 2004, for a value range of 1
_RADIUS, _SIGMA = 5, 1.5


def visible(image: torch.Tensor, spec: TensorSpec) -> torch.Tensor:
    """Map `image` from `spec`'s value range to [0, 1], cut off as a display does; the gradient passes as if it were not cut.

    A student that is brighter than white where the teacher is white makes no error; where the teacher is grey it is pulled
    back. A plain clamp has no gradient there, no clamp at all would teach values that nobody sees. Without a range in `spec`
    the values stay as they are.
    """
    if spec.low is None or spec.high is None:
        return image.float()
    scaled = (image.float() - spec.low) / (spec.high - spec.low)
    return scaled + (scaled.clamp(0.0, 1.0) - scaled).detach()


def l1_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference. Source: pix2pix (Isola et al. 2017), OMGD (Ren et al. 2021)."""
    return (student - teacher).abs().mean()


def charbonnier_loss(student: torch.Tensor, teacher: torch.Tensor, epsilon: float = 1e-3) -> torch.Tensor:
    """Return mean sqrt(d^2 + epsilon^2), an L1 that is smooth at 0. Source: LapSRN (Lai et al. 2017), whose epsilon this is."""
    return torch.sqrt((student - teacher) ** 2 + epsilon**2).mean()


def gradient_loss(student: torch.Tensor, teacher: torch.Tensor, scales: int = 3) -> torch.Tensor:
    """Return the mean absolute difference of the horizontal and vertical slopes, averaged over `scales` halvings.

    Source: gradient difference loss (Mathieu et al. 2016), on a pyramid. Scales whose shorter side is below 2 are left out.
    """
    difference, terms = student - teacher, []
    for _ in range(scales):
        if min(difference.shape[-2:]) < 2:
            break
        across = (difference[..., :, 1:] - difference[..., :, :-1]).abs().mean()
        down = (difference[..., 1:, :] - difference[..., :-1, :]).abs().mean()
        terms.append((across + down) / 2)
        difference = F.avg_pool2d(difference, 2)
    return torch.stack(terms).mean() if terms else difference.sum() * 0.0


def ssim(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return the structural similarity (N,) of images in [0, 1]: 1 for identical ones. Differentiable.

    Source: Wang et al. 2004: 11x11 gaussian window of sigma 1.5, mirrored at the borders, mean over positions and channels:
    the same numbers as `edgegen.quality.metrics.ssim`. Images below 6 pixels get the largest window that fits.
    """
    # one depthwise call for all five moments: 22 ms against 20-120 ms as matrix products at (4, 3, 128..256, 128..256)
    moments = _blur(torch.cat([student, teacher, student**2, teacher**2, student * teacher], dim=1))
    mean_a, mean_b, square_a, square_b, product = moments.chunk(5, dim=1)
    variance_a = (square_a - mean_a**2).clamp_min(0.0)
    variance_b = (square_b - mean_b**2).clamp_min(0.0)
    structure = (2 * (product - mean_a * mean_b) + _C2) / (variance_a + variance_b + _C2)
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return (structure * luminance).mean(dim=(1, 2, 3))


def ssim_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return 1 - SSIM, the mean over the batch. Source: OMGD (Ren et al. 2021), which weighs it 10 : 10 with features."""
    return 1.0 - ssim(student, teacher).mean()


def feature_loss(student_tap: torch.Tensor, teacher_tap: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference of two feature maps (N, C, H, W), in units of `scale`, the teacher's usual magnitude.

    Source: FitNets (Romero et al. 2015) and GAN Compression (Li et al. 2020): the student's map went through a learned 1x1
    convolution; L1 as in the pilot that reached SSIM 0.62 on a style generator.
    """
    return (student_tap.float() - teacher_tap.float()).abs().mean() / scale


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


def psnr_db(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return the peak signal-to-noise ratio (N,) of images in [0, 1], in dB, at most 100 (identical images)."""
    mse = (student - teacher).square().mean(dim=(1, 2, 3))
    return -10.0 * torch.log10(mse.clamp_min(1e-10))


def _blur(images: torch.Tensor) -> torch.Tensor:
    """Return `images` (N, C, H, W) under the gaussian window, the same size, mirrored at the borders."""
    channels, height, width = images.shape[1:]
    down, across = _window(images, height).view(1, 1, -1, 1), _window(images, width).view(1, 1, 1, -1)
    pad_y, pad_x = down.shape[2] // 2, across.shape[3] // 2
    padded = F.pad(images, (pad_x, pad_x, pad_y, pad_y), mode="reflect")
    rows = F.conv2d(padded, across.expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(rows, down.expand(channels, 1, -1, 1), groups=channels)


def _window(images: torch.Tensor, side: int) -> torch.Tensor:
    radius = min(_RADIUS, side - 1)
    steps = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    taps = torch.exp(-0.5 * (steps / _SIGMA) ** 2)
    return taps / taps.sum()
