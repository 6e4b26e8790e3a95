"""Options that several commands share, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgegen.recipe import Effort
from edgegen.support import option_help

Checkpoint = Annotated[Path, typer.Argument(help="The trained generator: .safetensors, .pt, .pth, .ckpt or .pkl.")]
Target = Annotated[str, typer.Option(help="A device (`edgegen targets`), an alias such as jetson or ar, or a .toml file.")]
Backend = Annotated[str | None, typer.Option(help=option_help())]
Resolution = Annotated[str | None, typer.Option(help="Input size, WIDTHxHEIGHT in pixels.")]
Latency = Annotated[str | None, typer.Option(help="What one frame may take: 33ms.")]
Fps = Annotated[float | None, typer.Option(help="The same as frames per second.")]
MaxSize = Annotated[str | None, typer.Option(help="Limit of the artifact's size: 4MiB.")]
MaxMemory = Annotated[str | None, typer.Option(help="Limit of the peak memory: 64MiB.")]
MinSsim = Annotated[float | None, typer.Option(help="Quality floor: SSIM against the teacher on held-out inputs.", min=0, max=1)]
Data = Annotated[Path | None, typer.Option(help="Folder of photos or label maps, for distillation and calibration.")]
EffortOption = Annotated[Effort, typer.Option(help="How long distillation trains.")]
RecipeOption = Annotated[str, typer.Option(help="A built-in recipe or a .toml file.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
Arch = Annotated[str | None, typer.Option(help="Your own class for an unknown family: file.py:Net. Needs --trust.")]
Trust = Annotated[bool, typer.Option("--trust", help="Allow the code named by --arch to run.")]
Perceptual = Annotated[Path | None, typer.Option(help="Weights of VGG16 or LPIPS, for the perceptual loss.")]
Discriminator = Annotated[Path | None, typer.Option(help="Checkpoint of the discriminator, for the adversarial loss.")]
Tables = Annotated[Path | None, typer.Option(help="Folder of layers that were measured here or on the target: bench --table.")]
DeviceOption = Annotated[
    list[str] | None,
    typer.Option(help="Where: local:, ssh://user@host, adb://SERIAL, a name of the inventory, or all of it. Can be repeated."),
]
Devices = Annotated[Path, typer.Option(help="The inventory of boards.")]
