"""`--arch file.py:Net`: the user's own class, run only when asked for twice, and recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgegen.errors import CheckpointError
from edgegen.load import load
from edgegen.spec import Kind

_SOURCE = """
from pathlib import Path
import torch
from torch import nn
from neighbour import WIDTH
Path(__file__).with_name("ran").touch()

class Net(nn.Module):
    output_range = (-1.0, 1.0)
    def __init__(self):
        super().__init__()
        self.a, self.b, self.act = nn.Conv2d(3, WIDTH, 3, padding=1), nn.Conv2d(WIDTH, 3, 3, padding=1), nn.Hardtanh()
    def forward(self, x):
        return self.act(self.b(self.a(x)))

class Latent(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 3 * 4 * 4)
    def forward(self, z):
        return self.fc(z).view(-1, 3, 4, 4)

class Branching(Net):
    def forward(self, x):
        return x if x.mean() > 0 else -x

class Needy(nn.Module):
    def __init__(self, width):
        super().__init__()
"""


@pytest.fixture
def arch(tmp_path: Path) -> Path:
    """A user's file with a neighbour that it imports; it leaves the file "ran" when its code runs."""
    (tmp_path / "neighbour.py").write_text("WIDTH = 5\n")
    (tmp_path / "mine.py").write_text(_SOURCE)
    return tmp_path / "mine.py"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint that fits Net, in a wrapper, from several devices, in half precision."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"a.weight": (5, 3, 3, 3), "a.bias": (5,), "b.weight": (3, 5, 3, 3), "b.bias": (3,)}
    state = {f"module.{key}": torch.randn(shape, generator=generator).half() for key, shape in shapes.items()}
    torch.save({"state_dict": state}, tmp_path / "g.pt")
    return tmp_path / "g.pt"


def test_without_trust_the_file_is_not_even_imported(arch: Path, checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="would run the code in that file") as caught:
        load(checkpoint, arch=f"{arch}:Net")
    assert "--trust" in caught.value.hint
    assert not arch.with_name("ran").exists()


def test_with_trust_the_class_is_loaded_and_the_source_says_so(arch: Path, checkpoint: Path) -> None:
    generator = load(checkpoint, arch=f"{arch}:Net", trust=True, resolution=(16, 24))
    assert generator.source["trusted"] is True
    assert generator.family == "custom:Net"
    taken, given = generator.spec.inputs[0], generator.spec.outputs[0]
    assert (taken.kind, taken.shape, taken.low, taken.high) == (Kind.IMAGE, (3, 16, 24), 0.0, 1.0)
    assert (given.shape, given.low, given.high) == ((3, 16, 24), -1.0, 1.0)
    assert generator.module.a.weight.dtype == torch.float32


def test_a_first_linear_layer_means_a_latent(arch: Path, tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(48, 6), "fc.bias": torch.zeros(48)}, tmp_path / "l.pt")
    generator = load(tmp_path / "l.pt", arch=f"{arch}:Latent", trust=True)
    assert (generator.spec.inputs[0].kind, generator.spec.inputs[0].shape) == (Kind.LATENT, (6,))
    assert generator.spec.outputs[0].shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mine.py:Nett", "has no torch module 'Nett'"),
        ("mine.py:Needy", "cannot be constructed"),
        ("mine.py:Latent", "does not fit .*'fc.weight' is missing in the checkpoint"),
        ("mine.py:Branching", "cannot be traced"),
        ("other.py:Net", "does not exist"),
        ("mine.py", "names no class"),
        ("broken.py:Net", "cannot be imported: SyntaxError"),
    ],
)
def test_what_is_wrong_with_the_class_is_said(arch: Path, checkpoint: Path, name: str, said: str) -> None:
    arch.with_name("broken.py").write_text("class Net(:\n")
    with pytest.raises(CheckpointError, match=said):
        load(checkpoint, arch=str(arch.with_name(name)), trust=True)


def test_a_checkpoint_that_would_run_code_stays_refused_with_trust(arch: Path, tmp_path: Path) -> None:
    torch.save(torch.nn.Conv2d(3, 3, 3), tmp_path / "whole.pt")
    with pytest.raises(CheckpointError, match="would run code"):
        load(tmp_path / "whole.pt", arch=f"{arch}:Net", trust=True)


def test_a_recognised_generator_is_not_marked_as_trusted(cases, tmp_path: Path) -> None:
    torch.save(cases["dcgan 16"].state(), tmp_path / "g.pt")
    assert load(tmp_path / "g.pt", trust=True).source["trusted"] is False
