"""Many targets and budgets of one checkpoint: content-addressed units, done once, in processes here or on a Ray cluster."""

from edgegen.sweep.run import SweepOutcome, run_sweep
from edgegen.sweep.units import Asked

__all__ = ["Asked", "SweepOutcome", "run_sweep"]
