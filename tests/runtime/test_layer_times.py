"""Times and types of layers, by what back ends say of themselves."""

from pathlib import Path

import pytest
import small_bundles

from edgegen.bundle import write_bundle
from edgegen.runtime.layer_times import layer_times, read_onnxruntime_profile

MACS = small_bundles.HEIGHT * small_bundles.WIDTH * 9 * 3 * 8  # of each of the two convolutions


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> small_bundles.Small:
    return small_bundles.style(tmp_path_factory.mktemp("layers"))


def test_openvino_tells_time_type_and_work_of_every_layer(small: small_bundles.Small, tmp_path: Path) -> None:
    found = layer_times(str(small.write(tmp_path / "b")), None, 1, 5)
    convolutions = [layer for layer in found["layers"] if layer["kind"] == "Convolution"]
    assert [layer["macs"] for layer in convolutions] == [MACS, MACS]
    assert all(layer["type"] == "f32" and layer["ns"] >= 0 and layer["bytes"] > 0 for layer in convolutions)
    assert sum(layer["ns"] for layer in found["layers"]) > 0 and found["reason"] == ""


def test_onnxruntime_tells_them_through_its_profile(small: small_bundles.Small, tmp_path: Path) -> None:
    artifact = small_bundles.onnx_artifact(small.module, small.spec, tmp_path / "a")
    out = write_bundle(
        tmp_path / "b", manifest=small.manifest(preferred=artifact.name), artifacts=[artifact], cases=small.cases(1)
    )
    found = layer_times(str(out), None, 1, 5)
    assert sum(layer["kind"] in ("Conv", "FusedConv") for layer in found["layers"]) == 2
    assert {layer["type"] for layer in found["layers"]} == {"f32"}


def test_a_profile_of_onnxruntime_leaves_out_the_first_runs_and_other_events() -> None:
    def event(name: str, dur: int, kind: str) -> dict:
        args = {"op_name": "QLinearConv", "input_type_shape": [{kind: [1, 3]}], "output_type_shape": []}
        return {"cat": "Node", "name": name, "dur": dur, "args": args}

    events = [{"cat": "Session", "name": "model_run", "dur": 9}, event("a_fence_before", 5, "int8")]
    events += [event("a_kernel_time", dur, "uint8") for dur in (900, 10, 30, 20)] + [event("b_kernel_time", 7, "float")]
    layers = read_onnxruntime_profile(events, 1)
    assert [(layer.name, layer.type, layer.ns) for layer in layers] == [("a", "int8", 20_000), ("b", "f32", 7_000)]
