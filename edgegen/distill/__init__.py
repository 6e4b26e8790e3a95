"""Distillation: the student learns to give the teacher's images, in the one training loop of the project."""

from edgegen.distill.discriminator import load_discriminator
from edgegen.distill.loop import distill

__all__ = ["distill", "load_discriminator"]
