"""A checkpoint in every back end that runs here: what ran has time, picture and size; what did not says why."""

from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from edgegen.cli.main import app
from edgegen.errors import RecipeError
from edgegen.every_export import compare_exports
from edgegen.generator import Generator
from edgegen.graph import trace
from edgegen.progress import Silent
from edgegen.spec import Backend, ComponentSpec, Kind, Layout, Precision, TensorSpec
from edgegen.support import export_of


def small_generator() -> Generator:
    torch.manual_seed(0)
    net = nn.Sequential(nn.ConvTranspose2d(8, 8, 4), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh()).eval()
    latent = TensorSpec("latent", Kind.LATENT, (8, 1, 1), Layout.CHW)
    image = TensorSpec("image", Kind.IMAGE, (3, 8, 8), Layout.CHW, low=-1.0, high=1.0)
    return Generator(trace(net), ComponentSpec("generator", (latent,), (image,)), "test", {}, {})


@pytest.mark.slow
def test_what_runs_is_measured_and_what_does_not_says_why() -> None:
    wanted = [
        (Backend.ONNXRUNTIME, Precision.F32),
        (Backend.ONNXRUNTIME, Precision.INT8),
        (Backend.LITERT, Precision.F16),
        (Backend.TENSORRT, Precision.F16),
        (Backend.OPENVINO, Precision.INT8_DYNAMIC),
    ]
    rows = [export_of(*pair) for pair in wanted]
    found = compare_exports(small_generator(), None, threads=1, progress=Silent(), rows=rows)
    assert [row.export for row in found] == rows
    for row in found[:3]:
        assert row.latency_s and row.size_bytes and row.note == ""
    loss_db = [row.psnr_db or 0.0 for row in found[:3]]
    assert loss_db[0] > 90 and loss_db[2] > 60 and 30 < loss_db[1] < loss_db[0]
    assert [row.latency_s for row in found[3:]] == [None, None]
    assert found[3].note.startswith("verified here by onnxruntime") and "no dynamic int8" in found[4].note
    assert found[0].to_json()["status"] == "runs here"


def test_a_bundle_is_refused_by_all_with_the_option_that_measures_its_artifacts(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", str(tmp_path), "--all"])
    assert isinstance(done.exception, RecipeError)
    assert ("is a bundle" in done.exception.message, done.exception.hint) == (True, "--backend measures another artifact of it")
