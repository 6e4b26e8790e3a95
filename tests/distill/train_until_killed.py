"""Run by test_training_kills.py: trains a tiny student, tells each step, and stores the student; may die on the way.

    python train_until_killed.py FOLDER SETTING [MOMENT COUNT]

MOMENT "step" kills this process, as kill -9 would, after COUNT steps of this process; "written" when the COUNT-th training state
is written but not in its place; "placed" right after it is.
"""

import dataclasses
import os
import signal
import sys
from pathlib import Path

from tiny import CONFIG, SmoothImages, painter
from torch import nn

from edgegen.distill import distill
from edgegen.generator import save_generator
from edgegen.progress import Silent
from edgegen.recipe import LossConfig, TrainingArithmetic

SETTINGS = {
    "features": dataclasses.replace(CONFIG, arithmetic=TrainingArithmetic.F32),  # whose sums depend on the number of threads
    "workers": dataclasses.replace(CONFIG, workers=2),
    "stored images": dataclasses.replace(
        CONFIG, workers=1, losses=LossConfig(feature=0.0), augment=dataclasses.replace(CONFIG.augment, views=3)
    ),
}
STEPS = 40


def die():
    """End as kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


class Telling(Silent):
    """Prints a line per step, so that whoever kills this process knows that it trains."""

    def __init__(self, last):
        self.done, self.last = 0, last

    def advance(self, count=1, **facts):
        """Tell the step, and die after the last."""
        self.done += 1 if "loss" in facts else 0  # the first report is where an earlier run had come
        os.write(1, f"{self.done}\n".encode())
        if self.last and self.done == self.last:
            die()


def dying_replace(moment, count):
    """Return os.replace, deadly at the `count`-th training state."""
    replace, seen = os.replace, []

    def deadly(source, place):
        seen.extend([place] if str(place).endswith(".training") else [])
        if moment == "written" and len(seen) == count:
            die()
        replace(source, place)
        if moment == "placed" and len(seen) == count:
            die()

    return deadly


if __name__ == "__main__":
    folder, setting = Path(sys.argv[1]), sys.argv[2]
    moment, count = (sys.argv[3], int(sys.argv[4])) if len(sys.argv) > 3 else ("", 0)
    os.replace = dying_replace(moment, count)
    norm = nn.InstanceNorm2d if setting == "features" else nn.BatchNorm2d
    teacher = painter(8, seed=2, norm=norm)
    result = distill(painter(4, seed=1, norm=norm), SETTINGS[setting], teacher=teacher, inputs=SmoothImages(), steps=STEPS,
                     seed=0, work_dir=folder, progress=Telling(count if moment == "step" else 0))  # fmt: skip
    (folder / "student").mkdir(exist_ok=True)
    save_generator(result, folder / "student")
