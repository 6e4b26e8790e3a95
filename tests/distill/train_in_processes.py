"""Run by `accelerate launch` in test_loop.py: trains the tiny student and stores the weights that this process ends with."""

import dataclasses
import sys
from pathlib import Path

import torch
from tiny import CONFIG, SmoothImages, painter

from edgegen.distill import distill
from edgegen.distill.hardware import Arithmetic
from edgegen.progress import Silent
from edgegen.recipe import LossConfig

_POOL = dataclasses.replace(CONFIG.augment, views=2)
SETTINGS = {
    "plain": CONFIG,
    "workers and stored images": dataclasses.replace(CONFIG, workers=1, losses=LossConfig(feature=0.0), augment=_POOL),
}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    result = distill(painter(4, seed=1), SETTINGS[sys.argv[2]], teacher=painter(8, seed=2), inputs=SmoothImages(), steps=20,
                     seed=0, work_dir=folder, progress=Silent(), arithmetic=Arithmetic.F32)  # fmt: skip
    rank = torch.distributed.get_rank()
    assert result.lineage[-1].facts["processes"] == 2
    torch.save(result.module.state_dict(), folder / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()
