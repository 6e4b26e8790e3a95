"""What could be done with a checkpoint, before anything long runs: three options on the predicted front."""

from edgegen.plan.make import find_option, make_plan
from edgegen.plan.model import Option, Plan, read_plan, save_plan

__all__ = ["Option", "Plan", "find_option", "make_plan", "read_plan", "save_plan"]
