"""`edgegen inspect`: the facts about a generator, as values and as the command prints them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgegen.load import load
from edgegen.load.inspect import inspect_generator, value_range
from edgegen.spec import Kind, Layout, TensorSpec
from edgegen.target import list_targets


@pytest.fixture
def checkpoint(cases, tmp_path: Path) -> Path:
    """A small CycleGAN generator."""
    torch.save(cases["cyclegan"].state(), tmp_path / "g.pt")
    return tmp_path / "g.pt"


def test_layers_add_up_to_the_whole(checkpoint: Path) -> None:
    generator = load(checkpoint, resolution=(32, 48))
    inspection = inspect_generator(generator)
    assert (
        sum(layer.params for layer in inspection.layers)
        == inspection.params
        == sum(p.numel() for p in generator.module.parameters())
    )
    assert sum(layer.macs for layer in inspection.layers) == inspection.macs
    counts = {layer.kind: layer.count for layer in inspection.layers}
    assert (counts["Conv2d"], counts["ConvTranspose2d"], counts["InstanceNorm2d"], counts["Tanh"]) == (8, 2, 9, 1)
    assert [layer.macs for layer in inspection.layers] == sorted((layer.macs for layer in inspection.layers), reverse=True)


def test_an_inspection_is_plain_json(checkpoint: Path) -> None:
    value = inspect_generator(load(checkpoint, resolution=(32, 32))).to_json()
    assert json.loads(json.dumps(value)) == value
    assert value["family"] == "resnet" and value["assumed"]


def test_value_ranges_are_told_in_words() -> None:
    latent = TensorSpec("latent", Kind.LATENT, (8,), Layout.D)
    image = TensorSpec("image", Kind.IMAGE, (3, 8, 8), Layout.CHW, low=-1.0, high=1.0)
    assert (value_range(latent), value_range(image)) == ("unit normal", "-1..1")


_COMMAND = "import typer; from edgegen.cli.inspect import inspect; typer.run(inspect)"


@pytest.mark.slow
def test_the_command_prints_tables_or_one_json_document(checkpoint: Path) -> None:
    command = [sys.executable, "-c", _COMMAND, str(checkpoint), "--resolution", "48x32"]
    tables = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "resnet" in tables.stdout and "ConvTranspose2d" in tables.stdout and "host" in tables.stdout
    assert "by convention, not in the tensors" in tables.stderr
    document = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert document["inputs"][0]["shape"] == [3, 32, 48]
    assert [target["id"] for target in document["targets"]] == [target.id for target in list_targets()]


@pytest.mark.slow
def test_the_command_module_imports_no_torch() -> None:
    code = "import sys, edgegen.load, edgegen.cli.inspect; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
