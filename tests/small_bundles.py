"""Small real bundles for tests: tiny networks, converted by the real converters, with cases computed by torch."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgegen.artifact import Artifact, describe_artifact
from edgegen.bundle import BundleCase, write_bundle
from edgegen.runtime.latents import draw
from edgegen.runtime.manifest import Manifest
from edgegen.spec import Backend, ComponentSpec, Kind, Layout, Precision, TensorSpec

HEIGHT, WIDTH = 24, 32
PICTURE_OUT = TensorSpec("picture", Kind.IMAGE, (3, HEIGHT, WIDTH), Layout.CHW, low=-1.0, high=1.0)


@dataclasses.dataclass(frozen=True)
class Small:
    """A network in eval mode, its spec, and its artifact for OpenVINO."""

    module: nn.Module
    spec: ComponentSpec
    artifact: Artifact

    def cases(self, count: int, *, min_psnr_db: float = 45.0) -> list[BundleCase]:
        """Cases on seeded inputs."""
        return [self.case(seed, min_psnr_db) for seed in range(count)]

    def case(self, seed: int, min_psnr_db: float) -> BundleCase:
        """One case; inputs of pictures lie on 8-bit levels."""
        inputs = tuple(_input(tensor, seed) for tensor in self.spec.inputs)
        with torch.no_grad():
            output = self.module(*(torch.from_numpy(x) for x in inputs)).numpy()
        return BundleCase(f"{seed:02d}", inputs, (output,), min_psnr_db)

    def manifest(self, **changes: object) -> Manifest:
        """A manifest without artifacts and cases."""
        values = {
            "name": "small", "component": self.spec, "preferred": self.artifact.name, "target": "host", "verdict": "met",
            "teacher": {"file": "small.pt", "sha256": "0" * 64}, "tools": {"edgegen": "0.1.0", "openvino": "2026.1"},
            "budget": {"latency_s": 0.033, "size_bytes": None, "memory_bytes": None, "min_ssim": 0.9},
            "lineage": ({"stage": "distill", "config": {"steps": 3}, "seconds": 1.5, "facts": {"psnr_db": 31.0}},),
        }  # fmt: skip
        return Manifest(**{**values, **changes})

    def write(self, out: Path, *, count: int = 3, **changes: object) -> Path:
        """A whole bundle."""
        return write_bundle(out, manifest=self.manifest(**changes), artifacts=[self.artifact], cases=self.cases(count))


def _input(spec: TensorSpec, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    match spec.kind:
        case Kind.IMAGE:
            levels = rng.integers(0, 256, spec.shape).astype(np.float32)
            return (levels * np.float32(2 / 255) - np.float32(1))[None]
        case Kind.LABEL_MAP:
            ids = rng.integers(0, spec.channels, (spec.height, spec.width))
            return np.eye(spec.channels, dtype=np.float32)[ids].transpose(2, 0, 1)[None]
        case _:
            return draw(spec, seed)


def style(folder: Path) -> Small:
    """Picture in, picture out."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1), nn.Tanh())
    return _small(module, TensorSpec("photo", Kind.IMAGE, (3, HEIGHT, WIDTH), Layout.CHW, low=-1.0, high=1.0), folder)


def from_latent(folder: Path) -> Small:
    """Latent in, picture out."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(16, 3 * HEIGHT * WIDTH), nn.Tanh(), nn.Unflatten(1, (3, HEIGHT, WIDTH)))
    return _small(module, TensorSpec("latent", Kind.LATENT, (16,), Layout.D), folder)


def from_labels(folder: Path) -> Small:
    """Label map of 4 classes in, picture out."""
    torch.manual_seed(2)
    module = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1), nn.Tanh())
    return _small(module, TensorSpec("labels", Kind.LABEL_MAP, (4, HEIGHT, WIDTH), Layout.CHW), folder)


def _small(module: nn.Module, given: TensorSpec, folder: Path) -> Small:
    spec = ComponentSpec("generator", (given,), (PICTURE_OUT,))
    return Small(module.eval(), spec, openvino_artifact(module.eval(), spec, folder))


def openvino_artifact(module: nn.Module, spec: ComponentSpec, folder: Path) -> Artifact:
    """The network as float32 IR, written to `folder`."""
    import openvino

    shape = (1, *spec.inputs[0].shape)
    graph = openvino.convert_model(module, example_input=torch.zeros(shape), input=[shape])
    folder.mkdir(parents=True, exist_ok=True)
    openvino.save_model(graph, folder / "generator.xml", compress_to_fp16=False)
    return describe_artifact(
        folder, backend=Backend.OPENVINO, precision=Precision.F32, entry="generator.xml", io=spec,
        settings={"inference_precision": "f32"}, facts={},
    )  # fmt: skip


def onnx_artifact(module: nn.Sequential, spec: ComponentSpec, folder: Path, backend: Backend = Backend.ONNXRUNTIME) -> Artifact:
    """The style network (conv, ReLU, conv, tanh) as ONNX, written to `folder`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = [numpy_helper.from_array(v.numpy(), k) for k, v in module.state_dict().items()]
    pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["photo", "0.weight", "0.bias"], ["a"], **pads), helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "2.weight", "2.bias"], ["c"], **pads), helper.make_node("Tanh", ["c"], ["picture"]),
    ]  # fmt: skip
    ports = [
        [helper.make_tensor_value_info(t.name, TensorProto.FLOAT, (1, *t.shape)) for t in group]
        for group in (spec.inputs, spec.outputs)
    ]
    graph = helper.make_graph(nodes, "small", ports[0], ports[1], weights)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx")
    settings = {"verify_with": "onnxruntime"} if backend is Backend.TENSORRT else {}
    settings |= {"input_names": ["photo"], "output_names": ["picture"]}
    return describe_artifact(
        folder, backend=backend, precision=Precision.F32, entry="model.onnx", io=spec, settings=settings, facts={}
    )  # fmt: skip


def litert_artifact(module: nn.Module, spec: ComponentSpec, folder: Path) -> Artifact:
    """The network as float32 .tflite that takes and gives channels-last images, written to `folder`."""
    import litert_torch

    class ChannelsLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def moved(tensor: TensorSpec) -> TensorSpec:
        return dataclasses.replace(tensor, shape=(*tensor.shape[1:], tensor.shape[0]), layout=Layout.HWC)

    io = ComponentSpec("generator", tuple(map(moved, spec.inputs)), tuple(map(moved, spec.outputs)))
    folder.mkdir(parents=True, exist_ok=True)
    converted = litert_torch.convert(ChannelsLast().eval(), (torch.zeros(1, *io.inputs[0].shape),))
    converted.export(str(folder / "generator.tflite"))
    settings = {"signature": "serving_default", "input_names": ["args_0"], "output_names": ["output_0"]}
    return describe_artifact(
        folder, backend=Backend.LITERT, precision=Precision.F32, entry="generator.tflite", io=io, settings=settings, facts={}
    )  # fmt: skip
