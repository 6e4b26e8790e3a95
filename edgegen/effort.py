"""How long and on what distillation trains: amounts of arithmetic, not of seconds, so that equal seeds give equal students."""

from __future__ import annotations

import dataclasses

from edgegen.generator import Generator
from edgegen.recipe import USUAL_LEARNING_RATE, DistillConfig, Effort
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
_LARGEST_CROP = 256  # as many pixels as a batch


def steps_for(effort: Effort, config: DistillConfig, teacher: Generator, student_macs: float) -> int:
    """Return `config.steps`, or as many as `effort` pays for: a step is a teacher pass and three student passes per sample.

    `student_macs` are those of one student pass; where a step trains several students, of one pass of each.
    """
    if config.steps:
        return config.steps
    from edgegen.graph import count_macs

    per_sample = count_macs(teacher.module, teacher.spec) + 3 * student_macs
    macs, most = _TRAINING[effort]
    return max(_FEWEST_STEPS, min(most, int(macs / (per_sample * _crop_share(teacher, config.augment.crop) * config.batch))))


def shortened(config: DistillConfig, steps: int, share: float) -> tuple[DistillConfig, int]:
    """Return settings and steps of a training that is `share` of a whole one of `steps` steps; the warm-up shrinks along."""
    fewer = max(1, round(share * steps))
    return dataclasses.replace(config, warmup_steps=min(config.warmup_steps, fewer // 4)), fewer


def polished(config: DistillConfig, steps: int) -> tuple[DistillConfig, int]:
    """Return settings and steps that finish a student which has been trained together with others."""
    config, steps = shortened(config, steps, _POLISH)
    return dataclasses.replace(config, learning_rate=continued_rate(config, _POLISH_RATE)), steps


def continued_rate(config: DistillConfig, share: float) -> float:
    """Return the learning rate of a training that continues the one of `config`: `share` of its rate, or of the usual one."""
    return share * (config.learning_rate or USUAL_LEARNING_RATE)


def fitted(config: DistillConfig, teacher: Generator) -> tuple[DistillConfig, str]:
    """Return `config` with a crop and a batch that fit the generator, and why the crop is not what was asked for ("": it is).

    Norms over the picture have other statistics on a crop than at run time, so generators with such norms train on whole
    pictures, or on the largest crops that one sample of a step may have.
    """
    crop, why = config.augment.crop, ""
    least, most = _BATCHES
    if crop and not takes_crops(teacher, crop):
        crop, why = 0, f"the generator does not take crops of {crop} pixels, training on whole pictures"
    elif 0 < crop < _LARGEST_CROP and normalises_over_pictures(teacher):
        least, whole = 1, _crop_share(teacher, _LARGEST_CROP) == 1.0
        crop = 0 if whole or not takes_crops(teacher, _LARGEST_CROP) else _LARGEST_CROP
        why = (
            f"the generator's norms see the whole picture, training on {f'crops of {crop} pixels' if crop else 'whole pictures'}"
        )
    config = dataclasses.replace(config, augment=dataclasses.replace(config.augment, crop=crop))
    if not config.batch:
        picture = teacher.spec.outputs[0]
        samples = round(_PIXELS_PER_BATCH / (picture.height * picture.width * _crop_share(teacher, crop)))
        config = dataclasses.replace(config, batch=max(least, min(most, samples)))
    return config, why


def normalises_over_pictures(generator: Generator) -> bool:
    """Whether a norm takes its statistics from the picture that it is given."""
    from torch import nn

    return any(isinstance(m, nn.InstanceNorm2d) and not m.track_running_stats for m in generator.module.modules())


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


def _crop_share(teacher: Generator, crop: int) -> float:
    """The part of a whole input that a training sample has."""
    image = teacher.spec.inputs[0]
    if image.layout is not Layout.CHW or not crop:
        return 1.0
    return min(1.0, crop**2 / (image.height * image.width))
