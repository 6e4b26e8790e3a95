"""Losses between feature maps (N, C, H, W): those of teacher and student, or of a network that judges pictures as people do.

Scalars in float32, means over the batch. Every one is relative to the teacher's own magnitude, so one weight means the same for
every generator, and every one compares within a picture: means over equal shards average to the whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

_LEAST = 1e-10  # under roots and quotients: a map of zeros has no finite slope without it


def feature_loss(student_tap: torch.Tensor, teacher_tap: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference of two feature maps (N, C, H, W), in units of `scale`, the teacher's usual magnitude.

    Source: FitNets (Romero et al. 2015) and GAN Compression (Li et al. 2020): the student's map went through a learned 1x1
    convolution; L1 as in the pilot that reached SSIM 0.62 on a style generator.
    """
    return (student_tap.float() - teacher_tap.float()).abs().mean() / scale


def channel_mean_loss(student_tap: torch.Tensor, teacher_tap: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference of the channels' means over positions, in units of `scale` squared.

    Source: the channel distillation of OMGD (Ren et al. 2021): the student's map went through a learned 1x1 convolution.
    """
    means = student_tap.float().mean(dim=(2, 3)) - teacher_tap.float().mean(dim=(2, 3))
    return means.square().mean() / scale.square()


def kernel_alignment(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return KA(X, Y) = <XX', YY'> / (|XX'| |YY'|) (...,) of X (..., R, C) and Y (..., R, D): 1 where rows relate alike.

    Source: CAT (Jin et al. 2021). X' is the transpose. Nothing larger than C x D is built: <XX', YY'> = |X'Y|^2.
    """

    def inner(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a.transpose(-2, -1) @ b).square().sum(dim=(-2, -1))

    return inner(x, y) / (inner(x, x) * inner(y, y) + _LEAST).sqrt()


def alignment_loss(student_tap: torch.Tensor, teacher_tap: torch.Tensor) -> torch.Tensor:
    """Return 1 - the kernel alignment of two feature maps (N, C, H, W) and (N, D, H, W): no adapter, channel counts may differ.

    Source: CAT (Jin et al. 2021), whose rows are the samples of a batch of 80. Ours are the positions within each picture: they
    are many in a batch of 4 too, and then the mean over shards is that of the whole. A map of one position gives 0.
    """
    rows = [tap.float().flatten(2).transpose(1, 2) for tap in (student_tap, teacher_tap)]
    # unit magnitude first: the fourth powers inside would leave the range of float32 otherwise
    units = [x / (x.square().mean(dim=(1, 2), keepdim=True) + _LEAST).sqrt() for x in rows]
    return 1.0 - kernel_alignment(*units).mean()


def gram_matrix(maps: torch.Tensor) -> torch.Tensor:
    """Return (N, C, C): how much two channels fire together, the mean over positions. Source: Gatys et al. 2016."""
    flat = maps.float().flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def gram_loss(student_maps: torch.Tensor, teacher_maps: torch.Tensor) -> torch.Tensor:
    """Return the absolute difference of the Gram matrices, relative to the teacher's, the mean over the batch.

    Source: Gatys et al. 2016 (texture and style); L1 and a weight of 1e4 on VGG16 as in OMGD (Ren et al. 2021), which the
    relative measure here makes of the order of 1. The maps have equal channels.
    """
    theirs = gram_matrix(teacher_maps)
    difference = (gram_matrix(student_maps) - theirs).abs().mean(dim=(1, 2))
    return (difference / (theirs.abs().mean(dim=(1, 2)) + _LEAST)).mean()


def perceptual_loss(student_maps: Sequence[torch.Tensor], teacher_maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the absolute difference of the maps of a judging network, relative to the teacher's: the mean over levels and batch.

    Source: Johnson et al. 2016; L1 as in OMGD (Ren et al. 2021).
    """
    levels = []
    for ours, theirs in zip(student_maps, teacher_maps, strict=True):
        difference, size = (ours - theirs).abs().mean(dim=(1, 2, 3)), theirs.abs().mean(dim=(1, 2, 3))
        levels.append((difference / (size + _LEAST)).mean())
    return torch.stack(levels).mean()


def lpips_loss(
    student_maps: Sequence[torch.Tensor], teacher_maps: Sequence[torch.Tensor], heads: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Return LPIPS, the mean over the batch: squared differences of channel-normalised maps, weighted by `heads` (C,) per level.

    Source: Zhang et al. 2018, version 0.1: sum over levels and channels, mean over positions.
    """
    total = student_maps[0].new_zeros(())
    for ours, theirs, head in zip(student_maps, teacher_maps, heads, strict=True):
        squares = (_unit_channels(ours) - _unit_channels(theirs)).square()
        total = total + (squares * head.view(1, -1, 1, 1)).sum(dim=1).mean()
    return total


def _unit_channels(maps: torch.Tensor) -> torch.Tensor:
    return maps / (maps.square().sum(dim=1, keepdim=True) + _LEAST).sqrt()
