"""Every back end computes what torch computes, and says clearly when it cannot."""

import dataclasses
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import small_bundles
import torch

from edgegen.artifact import describe_artifact
from edgegen.runtime.errors import MissingBackendError, RuntimeBundleError
from edgegen.runtime.runners import open_runner
from edgegen.runtime.runners.tensorrt import read_engine
from edgegen.spec import Backend, Precision

PHOTO = (np.random.default_rng(3).random((1, 3, small_bundles.HEIGHT, small_bundles.WIDTH), np.float32) * 2 - 1).astype(
    np.float32
)
PACKAGES = {"openvino": ["openvino"], "onnxruntime": ["onnxruntime"], "litert": ["ai_edge_litert", "tflite_runtime"]}


def expected(style: small_bundles.Small) -> np.ndarray:
    with torch.no_grad():
        return style.module(torch.from_numpy(PHOTO)).numpy()


def test_openvino_computes_what_torch_computes(style: small_bundles.Small) -> None:
    runner = open_runner(style.artifact.folder, style.artifact.entry, threads=1)
    (output,) = runner.run([PHOTO])
    assert np.abs(output - expected(style)).max() < 1e-5
    runner.close()


def test_an_artifact_for_a_device_that_is_not_here_names_the_device_and_those_that_are(style: small_bundles.Small) -> None:
    entry = dataclasses.replace(style.artifact.entry, settings={**style.artifact.entry.settings, "device": "NPU"})
    with pytest.raises(MissingBackendError, match="is for the NPU and OpenVINO finds none here .it finds CPU.") as caught:
        open_runner(style.artifact.folder, entry)
    assert "NPU driver" in caught.value.hint


def test_outputs_are_copies_that_the_next_run_leaves_alone(style: small_bundles.Small) -> None:
    runner = open_runner(style.artifact.folder, style.artifact.entry)
    (first,) = runner.run([PHOTO])
    kept = first.copy()
    runner.run([-PHOTO])
    assert np.array_equal(first, kept)
    runner.close()


def test_onnxruntime_computes_what_torch_computes(style: small_bundles.Small, tmp_path: Path) -> None:
    artifact = small_bundles.onnx_artifact(style.module, style.spec, tmp_path)
    runner = open_runner(tmp_path, artifact.entry, threads=1)
    assert np.abs(runner.run([PHOTO])[0] - expected(style)).max() < 1e-5
    assert runner.describe()["stands_in_for"] is None
    runner.close()


def test_a_tensorrt_artifact_is_verified_by_onnxruntime_where_there_is_no_tensorrt(
    style: small_bundles.Small, tmp_path: Path
) -> None:
    artifact = small_bundles.onnx_artifact(style.module, style.spec, tmp_path, Backend.TENSORRT)
    runner = open_runner(tmp_path, artifact.entry)
    assert np.abs(runner.run([PHOTO])[0] - expected(style)).max() < 1e-5
    assert runner.describe()["stands_in_for"] == "tensorrt"
    runner.close()


def test_an_onnxruntime_that_cuts_float16_off_does_not_verify_int8_for_tensorrt(
    style: small_bundles.Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    artifact = small_bundles.onnx_artifact(style.module, style.spec, tmp_path, Backend.TENSORRT)
    entry = dataclasses.replace(artifact.entry, precision="int8")
    open_runner(tmp_path, entry).close()
    monkeypatch.setattr(onnxruntime, "__version__", "1.29.0")
    with pytest.raises(RuntimeBundleError, match=r"tensorrt/int8: onnxruntime 1\.29\.0 cannot stand in for TensorRT") as refused:
        open_runner(tmp_path, entry)
    assert "1.30" in refused.value.hint
    open_runner(tmp_path, artifact.entry).close()  # float files are not concerned


def test_the_onnxruntime_that_is_asked_for_rounds_float16_to_the_nearest_even_step(tmp_path: Path) -> None:
    import onnxruntime
    from onnx import TensorProto, helper

    steps = helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"])
    constants = [
        helper.make_tensor("scale", TensorProto.FLOAT16, [], [0.5]),
        helper.make_tensor("zero", TensorProto.INT8, [], [0]),
    ]
    ports = [helper.make_tensor_value_info(n, t, [4]) for n, t in (("x", TensorProto.FLOAT16), ("y", TensorProto.INT8))]
    graph = helper.make_graph([steps], "one", ports[:1], ports[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (rounded,) = session.run(None, {"x": np.array([0.3, 0.45, -0.45, 0.75], np.float16)})
    assert rounded.tolist() == [1, 1, -1, 2]


@pytest.mark.slow
def test_an_int8_file_says_that_it_runs_in_int8(style: small_bundles.Small, tmp_path: Path) -> None:
    import nncf
    import openvino

    graph = openvino.Core().read_model(style.artifact.folder / "generator.xml")
    quantised = nncf.quantize(graph, nncf.Dataset([PHOTO]), subset_size=1)
    openvino.save_model(quantised, tmp_path / "generator.xml", compress_to_fp16=False)
    artifact = describe_artifact(
        tmp_path, backend=Backend.OPENVINO, precision=Precision.INT8, entry="generator.xml", io=style.spec,
        settings={"inference_precision": "f32"}, facts={},
    )  # fmt: skip
    runner = open_runner(tmp_path, artifact.entry)
    assert runner.describe()["execution_types"]["int8"] >= 2  # both convolutions
    assert np.abs(runner.run([PHOTO])[0] - expected(style)).mean() < 0.02
    runner.close()


@pytest.mark.slow
def test_litert_computes_what_torch_computes(style: small_bundles.Small, tmp_path: Path) -> None:
    artifact = small_bundles.litert_artifact(style.module, style.spec, tmp_path)
    for settings in (artifact.entry.settings, {}):  # by signature and by tensor order
        runner = open_runner(tmp_path, dataclasses.replace(artifact.entry, settings=settings), threads=1)
        (output,) = runner.run([np.ascontiguousarray(PHOTO.transpose(0, 2, 3, 1))])
        assert np.abs(output.transpose(0, 3, 1, 2) - expected(style)).max() < 1e-5
        assert runner.describe()["package"] == "ai-edge-litert"
        runner.close()


@pytest.mark.parametrize("backend", PACKAGES)
def test_a_back_end_that_is_not_installed_is_named_with_its_pip_command(
    style: small_bundles.Small, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in PACKAGES[backend]:
        monkeypatch.setitem(sys.modules, package, None)  # what Python does for a module that is known not to be there
        monkeypatch.setitem(sys.modules, package + ".interpreter", None)
    entry = dataclasses.replace(style.artifact.entry, backend=backend)
    with pytest.raises(MissingBackendError) as caught:
        open_runner(style.artifact.folder, entry)
    assert caught.value.hint.startswith("pip install")


def test_a_file_that_the_back_end_cannot_load_is_an_error_of_the_bundle(style: small_bundles.Small, tmp_path: Path) -> None:
    for name in ("generator.xml", "generator.bin"):
        (tmp_path / name).write_bytes(b"nothing of use")
    digest = hashlib.sha256(b"nothing of use").hexdigest()
    entry = dataclasses.replace(style.artifact.entry, files={"generator.xml": digest, "generator.bin": digest})
    with pytest.raises(RuntimeBundleError, match="cannot load generator.xml"):
        open_runner(tmp_path, entry)


def test_weights_that_are_not_listed_are_not_looked_for_on_the_disk(style: small_bundles.Small) -> None:
    files = {"generator.xml": style.artifact.entry.files["generator.xml"]}
    with pytest.raises(RuntimeBundleError, match=r"generator\.bin is not one of the artifact's files"):
        open_runner(style.artifact.folder, dataclasses.replace(style.artifact.entry, files=files))


def test_an_unknown_back_end_is_refused(style: small_bundles.Small) -> None:
    with pytest.raises(RuntimeBundleError, match="back end 'coreml' is unknown"):
        open_runner(style.artifact.folder, dataclasses.replace(style.artifact.entry, backend="coreml"))


def _engine(folder: Path, **changes: str) -> None:
    """What build_engine.py leaves beside model.onnx."""
    engine, onnx = b"an engine", (folder / "model.onnx").read_bytes()
    (folder / "model.engine").write_bytes(engine)
    about = {
        "engine_sha256": hashlib.sha256(engine).hexdigest(),
        "onnx_sha256": hashlib.sha256(onnx).hexdigest(),
        "tensorrt": "10.3.0",
    }
    (folder / "model.engine.json").write_text(json.dumps({**about, "gpu": None, **changes}))


@pytest.mark.parametrize("key", ["engine_sha256", "onnx_sha256", "tensorrt"])
def test_an_engine_of_another_file_or_version_is_refused_before_tensorrt_sees_it(
    style: small_bundles.Small, tmp_path: Path, key: str
) -> None:
    artifact = small_bundles.onnx_artifact(style.module, style.spec, tmp_path, Backend.TENSORRT)
    contents = {"model.onnx": (tmp_path / "model.onnx").read_bytes()}
    with pytest.raises(RuntimeBundleError, match="no engine was built"):
        read_engine(contents, artifact.entry, str(tmp_path), "10.3.0")
    _engine(tmp_path)
    assert read_engine(contents, artifact.entry, str(tmp_path), "10.3.0") == b"an engine"
    _engine(tmp_path, **{key: "something else"})
    with pytest.raises(RuntimeBundleError, match=f"the engine's {key}"):
        read_engine(contents, artifact.entry, str(tmp_path), "10.3.0")
