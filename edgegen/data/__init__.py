"""Inputs for calibration, distillation and verification: image folders, label maps, latents, classes."""

from edgegen.data.calibration import CalibrationSet, load_calibration
from edgegen.data.inputs import Inputs, open_inputs

__all__ = ["CalibrationSet", "Inputs", "load_calibration", "open_inputs"]
