"""Smallest generators around one operation, and what each runtime here makes of them: the eyes of the op tables' tests."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgegen.export.litert_convert import muted
from edgegen.generator import Generator
from edgegen.graph import trace
from edgegen.layers import Clamp, Crop2d, DepthToSpace
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec

CHANNELS, SIDE = 16, 8


class Cat(nn.Module):
    """Concatenation of the input with twice itself."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x * 2], 1)


class Quotient(nn.Module):
    """A quotient of two tensors."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / (x * x + 1)


class Tall(nn.Module):
    """A tensor of five axes on the way."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.unsqueeze(1).reshape(x.shape[0], CHANNELS, SIDE, SIDE)


# Row id -> the layers behind a 1x1 convolution with which the row is hit. Channels are 16, pictures 8x8.
NETS: dict[str, Callable[[], list[nn.Module]]] = {
    "conv-edge-padding": lambda: [nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect")],
    "conv-depthwise-dynamic": lambda: [nn.Conv2d(16, 16, 3, padding=1, groups=16)],
    "conv-depthwise": lambda: [nn.Conv2d(16, 16, 3, padding=1, groups=16)],
    "conv-transpose": lambda: [nn.ReLU(), nn.ConvTranspose2d(16, 16, 4, 2, 1)],
    "conv-transpose-grouped": lambda: [nn.ReLU(), nn.ConvTranspose2d(16, 16, 4, 2, 1, groups=4)],
    "conv-transpose-stride": lambda: [nn.ReLU(), nn.ConvTranspose2d(16, 16, 4, 4)],
    "conv-transpose-signed": lambda: [nn.LeakyReLU(0.2), nn.ConvTranspose2d(16, 16, 4, 2, 1)],
    "conv-transpose-sizes": lambda: [nn.ConvTranspose2d(16, 16, 3, 2, 1, 1)],
    "instance-norm": lambda: [nn.InstanceNorm2d(16, affine=True)],
    "edge-padding": lambda: [nn.ReplicationPad2d(1)],
    "constant-padding": lambda: [nn.ConstantPad2d(1, 1.0)],
    "upsample-repeat": lambda: [nn.Upsample(scale_factor=2)],
    "upsample-nearest": lambda: [nn.Upsample(scale_factor=7)],
    "upsample-bicubic": lambda: [nn.Upsample(scale_factor=2, mode="bicubic")],
    "upsample-smooth": lambda: [nn.Upsample(scale_factor=2, mode="bilinear")],
    "shuffle": lambda: [nn.PixelShuffle(2)],
    "prelu-single": lambda: [nn.PReLU()],
    "prelu-channels": lambda: [nn.PReLU(16)],
    "leaky-relu": lambda: [nn.LeakyReLU(0.2)],
    "relu-standalone": lambda: [Cat(), nn.ReLU()],
    "elu": lambda: [nn.ELU()],
    "gelu": lambda: [nn.GELU()],
    "softplus": lambda: [nn.Softplus()],
    "clamp-unit": lambda: [Clamp(0.0, 1.0)],
    "clamp": lambda: [Clamp(-0.5, 0.5)],
    "avg-pool": lambda: [nn.AvgPool2d(2)],
    "adaptive-pool": lambda: [nn.AdaptiveAvgPool2d(4)],
    "adaptive-pool-uneven": lambda: [nn.AdaptiveAvgPool2d(3)],
    "division": lambda: [Quotient()],
    "slice": lambda: [Crop2d(1, 1, 1, 1)],
    "depth-to-space": lambda: [DepthToSpace(2, 1)],
    "high-rank": lambda: [Tall()],
}


def generator_of(*layers: nn.Module, tail: bool = False) -> Generator:
    """Return a 1x1 convolution, `layers`, and a second convolution if `tail`, with seeded weights; pictures in [0, 1]."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1), *layers)
    with torch.no_grad():
        if tail:
            net.append(nn.Conv2d(net(torch.zeros(1, CHANNELS, SIDE, SIDE)).shape[1], CHANNELS, 3, padding=1))
        shape = tuple(net.eval()(torch.zeros(1, CHANNELS, SIDE, SIDE)).shape[1:])
    given = TensorSpec("image", Kind.IMAGE, (CHANNELS, SIDE, SIDE), Layout.CHW, low=0.0, high=1.0)
    made = TensorSpec("picture", Kind.IMAGE, shape, Layout.CHW, low=0.0, high=1.0)
    return Generator(trace(net), ComponentSpec("generator", (given,), (made,)), "test", {}, {})


def pictures(count: int = 2) -> list[np.ndarray]:
    """Seeded inputs, channels first."""
    return list(np.random.default_rng(0).random((count, 1, CHANNELS, SIDE, SIDE), dtype=np.float32))


def fully_int8(content: bytes) -> bytes:
    """Return the float .tflite with everything in static int8 that ai-edge-quantizer knows."""
    from ai_edge_quantizer import calibrator, quantizer, recipe_manager
    from ai_edge_quantizer.qtyping import TFLOperationName
    from ai_edge_quantizer.utils import qsv_utils

    manager = recipe_manager.RecipeManager()
    every = TFLOperationName.ALL_SUPPORTED
    manager.add_static_config(regex=".*", operation_name=every, activation_num_bits=8, weight_num_bits=8)
    with muted():
        made = quantizer.Quantizer(content)
        made.load_quantization_recipe(manager.get_quantization_recipe())
        ranges = calibrator.Calibrator(content, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
        samples = [{"args_0": np.ascontiguousarray(x.transpose(0, 2, 3, 1))} for x in pictures()]
        ranges.calibrate({"serving_default": samples}, manager)
        return bytes(made.quantize(ranges.get_model_qsvs(), enable_progress_report=False).quantized_model or b"")


def dynamic_int8(content: bytes) -> bytes:
    """Return the float .tflite with everything in dynamic int8 that ai-edge-quantizer knows."""
    from ai_edge_quantizer import quantizer, recipe

    with muted():
        made = quantizer.Quantizer(content)
        made.load_quantization_recipe(recipe.dynamic_wi8_afp32())
        return bytes(made.quantize(None, enable_progress_report=False).quantized_model or b"")


def openvino_types(generator: Generator) -> dict[str, set[str]]:
    """Return, for NNCF's int8 (mixed preset) of the generator, the kinds of layer that run and the types they run in."""
    import openvino as ov

    from edgegen.export.openvino import convert
    from edgegen.export.openvino_int8 import quantise

    model = quantise(convert(generator), [(x,) for x in pictures()], preset="mixed")
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    found: dict[str, set[str]] = {}
    for layer in compiled.get_runtime_model().get_ops():
        info = layer.get_rt_info()
        kind, primitive, names = (str(info[key].astype(str)) for key in ("layerType", "primitiveType", "originalLayersNames"))
        ran = "int8" if primitive.endswith("_I8") else "float"
        found.setdefault(kind, set()).add(ran)
        if "softplus" in names and kind != "Convolution":
            found.setdefault("softplus", set()).add(ran)
    return found


def onnxruntime_operations(generator: Generator) -> list[str]:
    """Return the operations that onnxruntime runs for the generator with Q/DQ nodes placed by edgegen."""
    import onnx
    import onnxruntime

    from edgegen.export.onnx_graph import feeds, to_onnx
    from edgegen.export.onnx_ranges import peaks
    from edgegen.export.qdq import insert_qdq, quantizable

    model = to_onnx(generator)
    samples = feeds(model, [(x,) for x in pictures()])
    quantised = insert_qdq(model, quantizable(model), peaks(model, samples))
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath, options.intra_op_num_threads = str(Path(folder) / "optimised.onnx"), 1
        options.log_severity_level = 3
        onnxruntime.InferenceSession(quantised.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
