"""Distillation: the student learns to give the teacher's images, in the one training loop of the project."""

from edgegen.distill.discriminator import load_discriminator
from edgegen.distill.loop import distill
from edgegen.distill.perceptual import load_perceptual
from edgegen.distill.slimmable import NestedResult, Sandwich, distill_nested

__all__ = ["NestedResult", "Sandwich", "distill", "distill_nested", "load_discriminator", "load_perceptual"]
