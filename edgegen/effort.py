"""How long and on what distillation trains: amounts of arithmetic, not of seconds, so that equal seeds give equal students."""

from __future__ import annotations

import dataclasses

from edgegen.generator import Generator
from edgegen.recipe import DistillConfig, Effort
from edgegen.spec import Layout

# Multiply-accumulates of teacher and student together, and the most steps for generators so small that they cost nothing.
# Balanced is some 17 minutes on one x86 core with AVX-512 BF16, quick some 3 minutes (benchmarks/headline.py style).
_TRAINING = {
    Effort.QUICK: (1.0e13, 1_000),
    Effort.BALANCED: (6.0e13, 8_000),
    Effort.THOROUGH: (4.0e14, 60_000),
}
_FEWEST_STEPS = 100
_POLISH, _POLISH_RATE = 0.25, 0.5  # of a whole training's steps, and of its learning rate
_PIXELS_PER_BATCH = 1 << 16
_BATCHES = (4, 64)


def steps_for(effort: Effort, config: DistillConfig, teacher: Generator, student_macs: float) -> int:
    """Return `config.steps`, or as many as `effort` pays for: a step is a teacher pass and three student passes per sample.

    `student_macs` are those of one student pass; where a step trains several students, of one pass of each.
    """
    if config.steps:
        return config.steps
    from edgegen.graph import count_macs

    per_sample = count_macs(teacher.module, teacher.spec) + 3 * student_macs
    macs, most = _TRAINING[effort]
    return max(_FEWEST_STEPS, min(most, int(macs / (per_sample * _crop_share(teacher, config) * config.batch))))


def shortened(config: DistillConfig, steps: int, share: float) -> tuple[DistillConfig, int]:
    """Return settings and steps of a training that is `share` of a whole one of `steps` steps; the warm-up shrinks along."""
    fewer = max(1, round(share * steps))
    return dataclasses.replace(config, warmup_steps=min(config.warmup_steps, fewer // 4)), fewer


def polished(config: DistillConfig, steps: int) -> tuple[DistillConfig, int]:
    """Return settings and steps that finish a student which has been trained together with others."""
    config, steps = shortened(config, steps, _POLISH)
    return dataclasses.replace(config, learning_rate=_POLISH_RATE * config.learning_rate), steps


def batch_for(teacher: Generator, config: DistillConfig) -> int:
    """Return how many samples make about 65,000 output pixels: small pictures need many for a steady gradient."""
    picture = teacher.spec.outputs[0]
    pixels = picture.height * picture.width * _crop_share(teacher, config)
    least, most = _BATCHES
    return max(least, min(most, round(_PIXELS_PER_BATCH / pixels)))


def takes_crops(teacher: Generator, crop: int) -> bool:
    """Whether the teacher maps square crops of `crop` pixels as it maps whole pictures; a U-Net has one size."""
    import torch

    image = teacher.spec.inputs[0]
    if image.layout is not Layout.CHW or crop >= min(image.height, image.width):
        return image.layout is not Layout.CHW or image.height == image.width
    try:
        with torch.no_grad():
            size = teacher.module(torch.zeros(1, image.channels, crop, crop)).shape[2]
    except RuntimeError:  # torch names shapes here; what matters is that this size does not go through
        return False
    return size * image.height == crop * teacher.spec.outputs[0].height


def _crop_share(teacher: Generator, config: DistillConfig) -> float:
    """The part of a whole input that one training sample has."""
    image = teacher.spec.inputs[0]
    if image.layout is not Layout.CHW or not config.augment.crop:
        return 1.0
    return min(1.0, config.augment.crop**2 / (image.height * image.width))
