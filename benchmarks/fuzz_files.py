"""What benchmarks/fuzz.py feeds with noise beside the bench: checkpoints, stored generators, bundles, pictures, users' TOML."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

import edgegen.runtime
from edgegen.data.calibration import load_calibration
from edgegen.data.pictures import decode_label_map, decode_photo
from edgegen.export.artifact_nodes import artifact_nodes
from edgegen.op_table import read_op_table
from edgegen.recipe import load_recipe
from edgegen.runtime.bundle import open_manifest
from edgegen.runtime.check import check
from edgegen.runtime.ppm import read_ppm
from edgegen.spec import Backend, ComponentSpec, Kind, Layout, Precision, TensorSpec
from edgegen.target import read_target

ROOT = Path(__file__).resolve().parents[1]
TINY = Path(edgegen.runtime.__file__).with_name("tiny_bundle.zip")
Target = tuple[list[bytes], Callable[[bytes], object]]
_PICTURE = ComponentSpec(
    "g",
    (TensorSpec("image", Kind.IMAGE, (3, 16, 16), Layout.CHW, low=-1.0, high=1.0),),
    (TensorSpec("made", Kind.IMAGE, (3, 16, 16), Layout.CHW, low=-1.0, high=1.0),),
)


def foreign_targets(scratch: Path) -> Mapping[str, Target]:
    """Return the parsers of files that others make, which read them from `scratch`."""

    def through(name: str, call: Callable[[Path], object]) -> Callable[[bytes], object]:
        path = scratch / name
        path.parent.mkdir(parents=True, exist_ok=True)

        def run(data: bytes) -> object:
            path.write_bytes(data)
            return call(path)

        return run

    safetensors, pickled, stored = _checkpoints(scratch)
    png, ids = _png("RGB"), _png("L")
    with zipfile.ZipFile(TINY) as archive:
        tflite = archive.read("artifacts/litert/f32/generator.tflite")
    return {
        "target profile": (_all("targets", "host", "jetson-orin-nano"), through("host.toml", read_target)),
        "recipe": (_all("recipes", "balanced", "distill-only"), through("recipe.toml", lambda path: load_recipe(str(path)))),
        "calibration": (
            _all("calibration", "photos", "latents", "low-light"),
            through("set.toml", lambda path: load_calibration(str(path), _PICTURE)),
        ),
        "op table": (_all("ops", "litert-cpu", "dla"), through("litert-cpu.toml", read_op_table)),
        "checkpoint, safetensors": ([safetensors], through("a.safetensors", _load)),
        "checkpoint, torch.save": ([pickled], through("a.pt", _load)),
        "stored generator": ([stored], through("stored/generator.json", lambda path: _stored(path.parent))),
        "bundle": ([TINY.read_bytes()], through("bundle.zip", _opened)),
        "artifact, .tflite": ([tflite], lambda data: artifact_nodes(Backend.LITERT, Precision.F32, {"m.tflite": data})),
        "artifact, ONNX": ([_onnx()], lambda data: artifact_nodes(Backend.ONNXRUNTIME, Precision.F32, {"m.onnx": data})),
        "picture": ([png], lambda data: decode_photo(data, Path("fuzz.png"), mode="RGB", smallest_side=4)),
        "label map": ([ids], lambda data: decode_label_map(data, Path("fuzz.png"), classes=4)),
        ".ppm": ([b"P6\n2 2\n255\n" + bytes(12), b"P5 # c\n1 1 255\n\0"], lambda data: read_ppm(data, "fuzz")),
    }


def _all(folder: str, *names: str) -> list[bytes]:
    return [(ROOT / folder / f"{name}.toml").read_bytes() for name in names]


def _checkpoints(scratch: Path) -> tuple[bytes, bytes, bytes]:
    """Return a tiny generator as safetensors, as torch.save writes it, and as edgegen stores it."""
    import torch
    from safetensors.torch import save
    from torch import nn

    from edgegen.generator import Generator, save_generator
    from edgegen.graph import trace

    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
    state = {name: value.detach() for name, value in module.state_dict().items()}
    buffer = io.BytesIO()
    torch.save({"state_dict": state, "epoch": 3}, buffer)
    (scratch / "stored").mkdir(parents=True, exist_ok=True)
    save_generator(Generator(trace(module), _PICTURE, "tiny", {}, {}), scratch / "stored")
    return save(state), buffer.getvalue(), (scratch / "stored" / "generator.json").read_bytes()


def _load(path: Path) -> object:
    from edgegen.load import load

    return load(path)


def _stored(folder: Path) -> object:
    from edgegen.generator import load_generator

    return load_generator(folder)


def _opened(path: Path) -> object:
    """Open what can be opened: a bundle whose bytes were changed must not pass for one whose hashes fit."""
    manifest = open_manifest(str(path))
    with edgegen.runtime.open(str(path), manifest.preferred, 1) as bundle:
        return check(bundle)


def _onnx() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[1, 1])
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 4, 4]) for n, c in (("x", 3), ("y", 2))]
    return helper.make_model(helper.make_graph([node], "g", ports[:1], ports[1:], [weight])).SerializeToString()


def _png(mode: str) -> bytes:
    from PIL import Image

    buffer, pixels = io.BytesIO(), np.arange(16 * 16, dtype=np.uint8).reshape(16, 16) % 4
    Image.fromarray(pixels).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()
