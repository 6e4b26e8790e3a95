"""The operations of finished artifacts are judged by the same tables, and in the precision they have in the file."""

from pathlib import Path

import pytest
from single_nodes import generator_of, pictures
from torch import nn

from edgegen.artifact import Artifact
from edgegen.errors import BundleError
from edgegen.export import export
from edgegen.export.artifact_nodes import artifact_nodes, judge_artifact
from edgegen.export.preflight import Finding
from edgegen.op_table import Action, load_op_table
from edgegen.rewrite import lower
from edgegen.spec import Backend, Precision

STYLE = (
    nn.ReflectionPad2d(1),
    nn.Conv2d(16, 16, 3),
    nn.InstanceNorm2d(16),
    nn.ReLU(),
    nn.Conv2d(16, 16, 3, padding=1),
    nn.Tanh(),
)


def files(artifact: Artifact) -> dict[str, bytes]:
    return {name: (artifact.folder / name).read_bytes() for name in artifact.entry.files}


def made(folder: Path, backend: Backend, precision: Precision) -> dict[str, bytes]:
    """Export the small style network as `compress` does."""
    artifact, *_ = export(lower(generator_of(*STYLE), backend), backend, (precision,), [(x,) for x in pictures(4)], folder)
    return files(artifact)


def by_kind(findings: list[Finding]) -> dict[str, set[Action]]:
    found: dict[str, set[Action]] = {}
    for finding in findings:
        found.setdefault(finding.kind, set()).add(finding.action)
    return found


def test_an_int8_tflite_shows_its_float_parts_as_islands(tmp_path: Path) -> None:
    content = made(tmp_path, Backend.LITERT, Precision.INT8)
    found = by_kind(judge_artifact(Backend.LITERT, Precision.INT8, content, [load_op_table("litert-cpu")]))
    assert Action.FLOAT in found["AdaptiveAvgPool2d"]  # the MEAN of the norm
    assert "ReflectionPad2d" not in found and "cat" in found  # rewritten before it was written
    assert found["RSQRT"] == {Action.UNKNOWN}


def test_an_accelerator_refuses_what_is_left_in_float(tmp_path: Path) -> None:
    content = made(tmp_path, Backend.LITERT, Precision.F32)
    found = by_kind(judge_artifact(Backend.LITERT, Precision.F32, content, [load_op_table("edge-tpu")]))
    assert found["Conv2d"] == {Action.REFUSED}


def test_an_onnx_file_for_tensorrt_is_read_through_its_quantise_nodes(tmp_path: Path) -> None:
    content = made(tmp_path, Backend.TENSORRT, Precision.INT8)
    nodes = artifact_nodes(Backend.TENSORRT, Precision.INT8, content)
    convolutions = [node for node in nodes if node.facts.op == "Conv2d"]
    assert len(convolutions) == 3 and all(node.precision is Precision.INT8 for node in convolutions)
    found = by_kind(judge_artifact(Backend.TENSORRT, Precision.INT8, content, [load_op_table("tensorrt-10.3")]))
    assert found["InstanceNorm2d"] == {Action.FLOAT} and found["Conv2d"] == {Action.NATIVE}


@pytest.mark.parametrize("precision", [Precision.F32, Precision.INT8])
def test_an_openvino_graph_is_read_without_its_weights_arithmetic(tmp_path: Path, precision: Precision) -> None:
    content = made(tmp_path, Backend.OPENVINO, precision)
    nodes = artifact_nodes(Backend.OPENVINO, precision, content)
    assert sum(node.facts.op == "Conv2d" for node in nodes) == 3
    assert {node.precision for node in nodes if node.facts.op == "Conv2d"} == {precision}
    found = by_kind(judge_artifact(Backend.OPENVINO, precision, content, [load_op_table("openvino-cpu")]))
    assert found["InstanceNorm2d"] == {Action.NATIVE if precision is Precision.F32 else Action.FLOAT}


def test_an_artifact_without_its_file_is_a_broken_bundle() -> None:
    with pytest.raises(BundleError, match=r"0 \.onnx files"):
        artifact_nodes(Backend.ONNXRUNTIME, Precision.F32, {"model.xml": b""})


@pytest.mark.parametrize(
    ("backend", "name"), [(Backend.ONNXRUNTIME, "m.onnx"), (Backend.LITERT, "m.tflite"), (Backend.OPENVINO, "m.xml")]
)
def test_a_damaged_artifact_is_one_sentence(backend: Backend, name: str) -> None:
    with pytest.raises(BundleError, match=f"the {backend.value} artifact cannot be read"):
        artifact_nodes(backend, Precision.F32, {name: b"\x08\x0e:\x8e\x01 damaged"})
