"""Whole runs small enough for tests: a DCGAN of a few thousand parameters, a recipe of 24 steps, and the real pipeline."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from edgegen.outcome import Outcome
from edgegen.pipeline import compress
from edgegen.progress import Silent
from edgegen.recipe import Effort
from edgegen.request import Request, make_request

STEPS, CHECKPOINT_EVERY = 24, 4
ROOT = Path(__file__).resolve().parents[1]

_RECIPE = f"""
schema = "edgegen.recipe/1"
name = "tiny"
title = "Everything, in seconds"
stages = ["load", "rewrite", "prune", "distill", "export", "verify", "bundle", "bench", "report"]

[prune]
speedup = 1.5

[distill]
steps = {STEPS}
batch = 4
warmup_steps = 2
checkpoint_every = {CHECKPOINT_EVERY}
evaluate_every = 12
held_out = 4

[verify]
held_out = 4

[bench]
min_runs = 16
min_seconds = 0.0
threads = 1
"""

_EXPORT_ONLY = """
schema = "edgegen.recipe/1"
name = "tiny-export"
title = "No training, in seconds"
stages = ["load", "rewrite", "export", "verify", "bundle"]

[rewrite]
space_to_depth = "no"

[verify]
held_out = 4
"""


def write_recipe(folder: Path, *, trains: bool = True) -> Path:
    """Every stage, or only what needs no training (without bench and report)."""
    path = folder / ("tiny.toml" if trains else "tiny-export.toml")
    path.write_text(_RECIPE if trains else _EXPORT_ONLY)
    return path


def write_latent_checkpoint(folder: Path) -> Path:
    """A DCGAN (latents of 16 to 32x32 pixels) as PyTorch's examples save it."""
    torch.manual_seed(3)
    main = nn.Sequential(
        nn.ConvTranspose2d(16, 32, 4, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.ConvTranspose2d(16, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.ConvTranspose2d(16, 3, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    with torch.no_grad():
        main[-2].weight.mul_(8)  # contrast: an untrained one draws grey
    path = folder / "faces.pt"
    torch.save({f"main.{key}": value for key, value in main.state_dict().items()}, path)
    return path


def write_picture_checkpoint(folder: Path) -> Path:
    """The weights of a small generator of pictures from pictures, of no known family; net.py beside it has classes for it."""
    (folder / "net.py").write_text(
        "from torch import nn\n\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1), nn.Sigmoid())\n\n"
        "class Squeezing(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(7), nn.Conv2d(8, 3, 3, padding=1))\n\n"
        "class Strange(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Conv2d(3, 8, 3, padding=1), nn.RReLU(), nn.Conv2d(8, 3, 3, padding=1))\n"
    )
    torch.manual_seed(4)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    path = folder / "photos.pt"
    torch.save(layers.state_dict(), path)
    return path


def write_photos(folder: Path, count: int) -> None:
    """Pictures of coloured noise, 40x36."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    for index in range(count):
        Image.fromarray(rng.integers(0, 256, (36, 40, 3), np.uint8)).save(folder / f"{index:02d}.png")


def ask(folder: Path, *, recipe: Path | str | None = None, **options: Any) -> Request:
    """A request as the command line makes it, for the tiny checkpoint in `folder`; `out` is `folder`/out unless it is given."""
    asked: dict[str, Any] = {
        "target": "intel-n100", "out": folder / "out", "latency": None, "fps": None, "max_size": None, "max_memory": None,
        "resolution": None, "min_ssim": None, "data": None, "effort": Effort.QUICK, "seed": 0, "resume": False, "start": None,
        "until": None,
    }  # fmt: skip
    return make_request(folder / "faces.pt", recipe=str(recipe or folder / "tiny.toml"), **{**asked, **options})


def run(folder: Path, **options: Any) -> Outcome:
    """Run the pipeline in this process."""
    return compress(ask(folder, **options), Silent())


def stage(out: Path, name: str) -> Path:
    """The folder of a finished stage."""
    (found,) = (path for path in (out / "stages").glob(f"??-{name}-*") if path.suffix != ".part")
    return found


def command(*words: object, driver: str | None = None) -> list[str]:
    """The command line `edgegen ...`; with `driver`, Python code that runs before it in the same process."""
    start = [sys.executable, "-m", "edgegen.cli.main"] if driver is None else [sys.executable, "-c", driver]
    return [*start, *(str(word) for word in words)]


def call(
    *words: object, driver: str | None = None, path: Path | None = None, timeout_s: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run `edgegen ...` as a user does; `path` comes first on PYTHONPATH."""
    return subprocess.run(
        command(*words, driver=driver), capture_output=True, text=True, timeout=timeout_s, env=environment(path), check=False
    )


def environment(path: Path | None = None) -> dict[str, str]:
    """The environment of child processes: this repository first, or second after `path`; one thread, nothing coloured."""
    folders = ([str(path)] if path else []) + [str(ROOT)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200"}


# Runs the real command line; the process kills itself, as kill -9 would, when a stage has written everything but is not finished.
KILLED_IN_STAGE = """
import os, signal, sys
from edgegen.cli.main import main
from edgegen.workspace import Workspace

where = sys.argv.pop(1)
stage = Workspace.stage

def until_killed(self, name, settings, make, **options):
    def dies(folder):
        make(folder)
        os.kill(os.getpid(), signal.SIGKILL)
    return stage(self, name, settings, dies if name == where else make, **options)

Workspace.stage = until_killed
main()
"""

# The same, when distillation has stored its state for the n-th time.
SIGNALLED_IN_TRAINING = """
import os, signal, sys
from edgegen.cli.main import main
from edgegen.distill import loop

kind, count = signal.Signals[sys.argv.pop(1)], int(sys.argv.pop(1))
store, stored = loop.write_checkpoint, []

def counted(path, key, state):
    store(path, key, state)
    stored.append(state["step"])
    if len(stored) == count:
        os.kill(os.getpid(), kind)

loop.write_checkpoint = counted
main()
"""

KILLED = -signal.SIGKILL
