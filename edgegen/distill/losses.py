"""What the student is trained to make small, between pictures: pure functions of tensors, each with its source.

Images are float batches (N, C, H, W), 0 = black, 1 = white (`visible` brings a generator's output there), so one weight means
the same for every generator. Every loss is a scalar, a mean over the batch: means over equal shards average to the whole, but
for `latent_direction_loss`, which compares the pictures of a batch with each other. All of them want float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from edgegen.pictures import visible as visible  # a loss is taken between visible pictures

_C1, _C2 = 0.01**2, 0.03**2  # Wang et al. 2004, for a value range of 1
_RADIUS, _SIGMA = 5, 1.5
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, from full to a sixteenth of the resolution
_SMALLEST_STRUCTURE = 1e-4  # a power below 1 of zero has no finite slope


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
    luminance, structure = _similarities(student, teacher)
    return (structure * luminance).mean(dim=(1, 2, 3))


def ssim_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return 1 - SSIM, the mean over the batch. Source: OMGD (Ren et al. 2021), which weighs it 10 : 10 with features."""
    return 1.0 - ssim(student, teacher).mean()


def ms_ssim(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return the multi-scale structural similarity (N,) of images in [0, 1]: 1 for identical ones. Differentiable.

    Source: Wang et al. 2003: contrast and structure at five halvings, luminance at the last. A scale counts while the shorter
    side has the 11 pixels of a window, so pictures below 176 pixels have fewer scales, the first ones, whose weights are
    raised to sum to 1 again: below 22 pixels it is the plain SSIM. A negative structure counts as almost none.
    """
    scales = 1
    while scales < len(_SCALE_WEIGHTS) and min(student.shape[-2:]) >> scales >= 2 * _RADIUS + 1:
        scales += 1
    if scales == 1:
        return ssim(student, teacher)
    weights, product = _SCALE_WEIGHTS[:scales], torch.ones(len(student), device=student.device)
    for scale, weight in enumerate(weights):
        luminance, structure = _similarities(student, teacher)
        found = structure * luminance if scale == scales - 1 else structure
        product = product * found.mean(dim=(1, 2, 3)).clamp_min(_SMALLEST_STRUCTURE) ** (weight / sum(weights))
        student, teacher = F.avg_pool2d(student, 2), F.avg_pool2d(teacher, 2)
    return product


def ms_ssim_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return 1 - MS-SSIM, the mean over the batch. Source: Zhao et al. 2017 (loss functions for image restoration)."""
    return 1.0 - ms_ssim(student, teacher).mean()


def haar_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference of the three high bands of one orthonormal Haar step; the low band is left alone.

    Source: Wavelet KD (Zhang et al. 2022), for pictures of 128 pixels and more. An odd last row or column is left out.
    """
    height, width = (side - side % 2 for side in student.shape[-2:])
    d = (student - teacher)[..., :height, :width]
    a, b, c, e = d[..., ::2, ::2], d[..., ::2, 1::2], d[..., 1::2, ::2], d[..., 1::2, 1::2]
    bands = torch.stack([a - b + c - e, a + b - c - e, a - b - c + e]) / 2  # across, down, diagonal
    return bands.abs().mean()


def total_variation_loss(student: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute slope across plus that down of the student's images; the teacher is not asked.

    Source: Rudin et al. 1992; OMGD (Ren et al. 2021) adds it with a weight of 1e-5 to the *sum* over a picture of 256x256, which
    is about 2 for this mean. Images of one row or column have none.
    """
    slopes = (student[..., :, 1:] - student[..., :, :-1], student[..., 1:, :] - student[..., :-1, :])
    return torch.stack([slope.abs().mean() if slope.numel() else slope.sum() for slope in slopes]).sum()


def latent_direction_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return 1 - the cosine between what two latents change in the student's and in the teacher's picture, the mean over pairs.

    Source: the latent-direction distillation of StyleKD (Xu et al. 2022), also in DCP (Chung et al. 2024). There, edited latents
    give the directions, here the differences between all latents of the batch do: no further pictures are generated. Needs at
    least two samples. It compares samples, so its means over shards are those over the pairs within shards, not over all pairs.
    """
    first, second = torch.triu_indices(len(student), len(student), offset=1, device=student.device)
    ours, theirs = (images.flatten(1)[first] - images.flatten(1)[second] for images in (student, teacher))
    return 1.0 - F.cosine_similarity(ours, theirs, dim=1).mean()


def psnr_db(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return the peak signal-to-noise ratio (N,) of images in [0, 1], in dB, at most 100 (identical images)."""
    mse = (student - teacher).square().mean(dim=(1, 2, 3))
    return -10.0 * torch.log10(mse.clamp_min(1e-10))


def _similarities(student: torch.Tensor, teacher: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the luminance and the contrast-and-structure terms of SSIM at every position, each (N, C, H, W)."""
    # one depthwise call for all five moments: 22 ms against 20-120 ms as matrix products at (4, 3, 128..256, 128..256)
    moments = _blur(torch.cat([student, teacher, student**2, teacher**2, student * teacher], dim=1))
    mean_a, mean_b, square_a, square_b, product = moments.chunk(5, dim=1)
    variance_a = (square_a - mean_a**2).clamp_min(0.0)
    variance_b = (square_b - mean_b**2).clamp_min(0.0)
    structure = (2 * (product - mean_a * mean_b) + _C2) / (variance_a + variance_b + _C2)
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return luminance, structure


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
