"""`edgegen preflight` as a user types it: a checkpoint, or a bundle, against a target."""

from __future__ import annotations

import json
from pathlib import Path

import pipeline_runs
import pytest
import small_bundles
import typer
from torch import nn
from typer.testing import CliRunner, Result

from edgegen.bundle import pack_bundle, write_bundle
from edgegen.cli.preflight import preflight
from edgegen.errors import BundleError, ExportError, TargetError

ROOT = Path(__file__).resolve().parents[2]
STREET = ROOT / "examples" / "automotive" / "street_unet.safetensors"


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    made.command()(preflight)
    return made


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with the style network for OpenVINO and onnxruntime, both in f32."""
    folder = tmp_path_factory.mktemp("bundle")
    small = small_bundles.style(folder / "ir")
    assert isinstance(small.module, nn.Sequential)
    onnx = small_bundles.onnx_artifact(small.module, small.spec, folder / "onnx")
    return write_bundle(folder / "bundle", manifest=small.manifest(), artifacts=[small.artifact, onnx], cases=small.cases(1))


def run(app: typer.Typer, *arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "220"}).invoke(app, [str(a) for a in arguments])


def test_a_checkpoint_is_told_node_by_node_with_reason_and_source(app: typer.Typer) -> None:
    printed = run(app, STREET, "--target", "raspberry-pi-5", "--resolution", "128x128")
    assert printed.exit_code == 0 and "int8 (litert-cpu)" in printed.stdout
    row = next(line for line in printed.stdout.splitlines() if "LeakyReLU" in line)
    assert "float island" in row and "LEAKY_RELU" in row and "measured here" in row
    assert sum(" Conv2d " in line for line in printed.stdout.splitlines()) > 3  # what simply runs is listed, too
    assert "nodes simply run" in printed.stderr


def test_json_counts_and_names_every_node(app: typer.Typer) -> None:
    document = json.loads(run(app, STREET, "--target", "jetson", "--resolution", "128x128", "--json").stdout)
    assert (document["target"], document["precision"]) == ("jetson-orin-nano", "int8")
    assert document["tables"] == ["tensorrt-10.3", "tensorrt-10.16"]
    assert sum(document["counts"].values()) == len(document["nodes"])
    moved = next(node for node in document["nodes"] if node["kind"] == "ConvTranspose2d")
    assert moved["action"] == "rewritten" and "depth-to-space" in moved["rewrite"] and moved["row"] == "conv-transpose"


def test_another_precision_is_judged_when_it_is_asked_for(app: typer.Typer) -> None:
    document = json.loads(run(app, STREET, "--precision", "f32", "--resolution", "128x128", "--json").stdout)
    assert document["precision"] == "f32" and set(document["counts"]) == {"native"}


def test_a_refused_node_ends_with_code_9_after_the_table(app: typer.Typer, tmp_path: Path) -> None:
    pipeline_runs.write_picture_checkpoint(tmp_path)
    own = ("--arch", f"{tmp_path / 'net.py'}:Squeezing", "--trust", "--resolution", "32x32")
    failed = run(app, tmp_path / "photos.pt", "--target", "raspberry-pi-5", *own)
    assert "refused" in failed.stdout
    assert isinstance(failed.exception, ExportError) and failed.exception.exit_code == 9
    assert "AdaptiveAvgPool2d" in failed.exception.message and "raspberry-pi-5" in failed.exception.message


def test_an_engine_without_a_back_end_is_asked_by_its_table(app: typer.Typer) -> None:
    told = run(app, STREET, "--target", "imx93", "--resolution", "128x128")
    assert "no back end for the npu" in told.stderr and "--table ethos-u65" in told.stderr
    document = json.loads(
        run(app, STREET, "--target", "imx93", "--resolution", "128x128", "--table", "ethos-u65", "--json").stdout
    )
    assert document["tables"] == ["ethos-u65"]
    assert isinstance(run(app, STREET, "--table", "ethos-u66").exception, TargetError)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
def test_a_bundle_is_told_operation_by_operation(app: typer.Typer, bundle: Path, tmp_path: Path, packed: bool) -> None:
    source = pack_bundle(bundle, tmp_path / "bundle.zip") if packed else bundle
    document = json.loads(run(app, source, "--json").stdout)
    assert (document["backend"], document["precision"]) == ("openvino", "f32")
    assert [n["kind"] for n in document["nodes"] if n["kind"] != "add"] == ["Conv2d", "ReLU", "Conv2d", "Tanh"]


def test_a_bundle_without_an_artifact_for_the_target_says_what_it_has(app: typer.Typer, bundle: Path) -> None:
    failed = run(app, bundle, "--target", "raspberry-pi-5")
    assert isinstance(failed.exception, BundleError)
    assert "'litert'" in failed.exception.message and "openvino" in failed.exception.hint
