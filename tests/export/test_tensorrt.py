"""TensorRT artifacts: pictures like torch's, types written into the file, nothing that TensorRT refuses."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from small_generators import Dcgan, DenseSkips, Style, SuperResolver, UNet, generator_of, psnr_db, samples, torch_outputs
from torch import nn

from edgegen.artifact import Artifact
from edgegen.errors import ExportError
from edgegen.export.onnx_graph import constants, to_onnx
from edgegen.export.tensorrt import export_tensorrt, refuse_violations
from edgegen.export.tensorrt_rules import check_tensorrt_rules
from edgegen.generator import Generator
from edgegen.rewrite.tensorrt import lower_for_tensorrt
from edgegen.spec import Backend, Kind, Precision

ALL = (Precision.F32, Precision.F16, Precision.INT8)
# Floors in dB against torch, peak = span of the pictures. f32: rounding of 24-bit sums, 126 seen at worst. f16: 11 bits per value
# are 68 dB for one rounding; dozens in a row gave 71. int8: symmetric 8 bits leave 7 behind a ReLU, 42 dB for one tensor; random
# weights through ten layers gave 34, real checkpoints 38 to 55. Each floor allows about twice the error seen.
FLOOR_DB = {Precision.F32: 110.0, Precision.F16: 62.0, Precision.INT8: 29.0}
NETS = {"super-resolver": (SuperResolver, (3, 32, 32)), "style": (Style, (3, 32, 32)), "u-net": (UNet, (3, 32, 32)),
        "dense skips": (DenseSkips, (3, 32, 32)), "dcgan": (Dcgan, (16,))}  # fmt: skip


@pytest.fixture(scope="module", params=NETS, ids=str)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Generator, list[Artifact]]:
    make, shape = NETS[request.param]
    generator = lower_for_tensorrt(generator_of(make(), shape))
    return generator, export_tensorrt(generator, ALL, samples(generator, 8, seed=1), tmp_path_factory.mktemp("out"))


def model_of(artifact: Artifact) -> onnx.ModelProto:
    return onnx.load(str(artifact.folder / artifact.entry.entry))


def run(model: onnx.ModelProto, inputs: list[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """Run in onnxruntime as it comes, with its fusions."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [session.run(None, dict(zip([p.name for p in session.get_inputs()], x, strict=True)))[0] for x in inputs]


def int8_of(generator: Generator, folder: Path) -> tuple[Artifact, onnx.ModelProto]:
    (artifact,) = export_tensorrt(generator, (Precision.INT8,), samples(generator, 4, seed=1), folder)
    return artifact, model_of(artifact)


def test_pictures_are_those_of_torch(exported: tuple[Generator, list[Artifact]]) -> None:
    generator, artifacts = exported
    inputs = samples(generator, 4, seed=2)
    references = torch_outputs(generator, inputs)
    for artifact in artifacts:
        precision = Precision(artifact.entry.precision)
        assert psnr_db(run(model_of(artifact), inputs), references) > FLOOR_DB[precision], artifact.name


def test_files_are_valid_and_break_no_rule(exported: tuple[Generator, list[Artifact]]) -> None:
    for artifact in exported[1]:
        model = model_of(artifact)
        onnx.checker.check_model(model, full_check=True)
        assert check_tensorrt_rules(model) == []
        assert sorted(artifact.entry.files) == ["build_engine.py", "model.onnx"]


def test_files_take_and_give_float32_under_the_names_of_the_spec(exported: tuple[Generator, list[Artifact]]) -> None:
    generator, artifacts = exported
    for artifact in artifacts:
        graph = model_of(artifact).graph
        ports = (*graph.input, *graph.output)
        assert [p.name for p in ports] == [t.name for t in (*generator.spec.inputs, *generator.spec.outputs)]
        assert {p.type.tensor_type.elem_type for p in ports} == {onnx.TensorProto.FLOAT}
        assert artifact.entry.io == generator.spec
        assert artifact.entry.settings["verify_with"] == "onnxruntime"


def test_half_files_hold_half_constants_and_cast_only_at_the_ends(exported: tuple[Generator, list[Artifact]]) -> None:
    model = model_of(exported[1][1])
    kinds = {value.dtype for name, value in constants(model).items() if value.dtype.kind == "f" and value.size > 8}
    assert kinds == {np.dtype(np.float16)}
    assert sum(node.op_type == "Cast" for node in model.graph.node) == 2
    assert exported[1][1].facts["kept_f32"] == []


def polygraphy(*arguments: str) -> str:
    """Run the command line of NVIDIA's tool without TensorRT and return what it printed."""
    command = "import sys; from polygraphy.tools import main; sys.argv[0] = 'polygraphy'; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", command, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_polygraphy_reads_the_int8_file_and_finds_as_many_nodes(exported: tuple[Generator, list[Artifact]]) -> None:
    artifact = exported[1][2]
    said = polygraphy("inspect", "model", str(artifact.folder / "model.onnx"), "--model-type", "onnx")
    assert "1 Graph Input" in said
    assert f"{len(model_of(artifact).graph.node)} Node" in said


@pytest.mark.slow
def test_what_polygraphy_sanitizes_breaks_no_rule_and_gives_the_same_pictures(tmp_path: Path) -> None:
    generator = lower_for_tensorrt(generator_of(Style(), (3, 32, 32)))
    artifact, before = int8_of(generator, tmp_path)
    path = tmp_path / "sanitized.onnx"
    polygraphy("surgeon", "sanitize", str(artifact.folder / "model.onnx"), "--cleanup", "--toposort", "-o", str(path))
    after = onnx.load(str(path))
    assert check_tensorrt_rules(after) == []
    assert sorted(n.op_type for n in after.graph.node) == sorted(n.op_type for n in before.graph.node)
    inputs = samples(generator, 2, seed=2)
    for one, other in zip(run(before, inputs), run(after, inputs), strict=True):
        assert np.array_equal(one, other)


def test_the_same_generator_and_calibration_give_the_same_bytes(tmp_path: Path) -> None:
    generator = generator_of(UNet())
    for folder in ("a", "b"):
        export_tensorrt(generator, ALL, samples(generator, 3, seed=1), tmp_path / folder)
    for precision in ALL:
        assert (tmp_path / "a" / precision.value / "model.onnx").read_bytes() == (
            tmp_path / "b" / precision.value / "model.onnx"
        ).read_bytes()


def test_the_file_says_nothing_about_where_it_was_made(tmp_path: Path) -> None:
    artifact, _ = int8_of(generator_of(DenseSkips()), tmp_path)
    content = (artifact.folder / "model.onnx").read_bytes()
    assert b".py" not in content
    assert str(Path.home()).encode() not in content


def test_export_leaves_the_generator_alone(tmp_path: Path) -> None:
    generator = generator_of(Style())
    before = {name: tensor.clone() for name, tensor in generator.module.state_dict().items()}
    int8_of(generator, tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.module.state_dict().items())


def loud_style(*, factor: float) -> Generator:
    """Return a style network whose first convolution gives values `factor` times as large; its norm takes that away again."""
    generator = generator_of(Style())
    with torch.no_grad():
        conv = generator.module.get_submodule("layers.1")
        conv.weight *= factor
        conv.bias *= factor
    return generator


class InstanceNormalization(OpRun):
    """TensorRT's way: values in float16, sums in float32 (its default compute precision)."""

    def _run(self, x: np.ndarray, scale: np.ndarray, bias: np.ndarray, epsilon: float) -> tuple[np.ndarray]:
        wide = x.astype(np.float32)
        centred = wide - wide.mean(axis=(2, 3), keepdims=True)
        normal = centred / np.sqrt(np.square(centred).mean(axis=(2, 3), keepdims=True) + np.float32(epsilon))
        return ((normal * scale.reshape(-1, 1, 1) + bias.reshape(-1, 1, 1)).astype(x.dtype),)


def rounded_at_every_node(model: onnx.ModelProto, inputs: list[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """Run in ONNX's reference implementation: onnxruntime on a CPU computes float16 in float32 and hides overflow."""
    evaluator = ReferenceEvaluator(model, new_ops=[InstanceNormalization])
    return [evaluator.run(None, {"image": image})[0] for (image,) in inputs]


def test_values_before_a_norm_that_overflow_half_are_scaled_in_the_weights(tmp_path: Path) -> None:
    generator = loud_style(factor=1e5)
    inputs = samples(generator, 2, seed=2)
    (artifact,) = export_tensorrt(generator, (Precision.F16,), samples(generator, 4, seed=1), tmp_path)
    model = model_of(artifact)
    assert artifact.facts["kept_f32"] == []
    assert all(np.isfinite(value).all() for value in constants(model).values())
    assert psnr_db(rounded_at_every_node(model, inputs), torch_outputs(generator, inputs)) > FLOOR_DB[Precision.F16]


class Loud(nn.Module):
    """Large values with no norm behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.c(torch.relu(self.b(torch.relu(self.a(x)))) * 1e-5))


@pytest.mark.parametrize("precision", [Precision.F16, Precision.INT8])
def test_other_values_that_overflow_half_keep_their_nodes_in_float32(tmp_path: Path, precision: Precision) -> None:
    generator = generator_of(Loud())
    with torch.no_grad():
        generator.module.get_submodule("b").weight *= 1e5
    (artifact,) = export_tensorrt(generator, (precision,), samples(generator, 4, seed=1), tmp_path)
    model = model_of(artifact)
    assert "b/Conv" in artifact.facts["kept_f32"]
    assert "c/Conv" not in artifact.facts["kept_f32"]
    assert check_tensorrt_rules(model) == []
    inputs = samples(generator, 2, seed=2)
    assert psnr_db(rounded_at_every_node(model, inputs), torch_outputs(generator, inputs)) > FLOOR_DB[precision]


@pytest.mark.parametrize("precision", [Precision.F16, Precision.INT8])
def test_no_range_is_guessed_without_calibration_inputs(tmp_path: Path, precision: Precision) -> None:
    with pytest.raises(ExportError, match="needs calibration inputs"):
        export_tensorrt(generator_of(DenseSkips()), (precision,), [], tmp_path)
    assert not list(tmp_path.rglob("*.onnx"))


def test_dynamic_int8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="refuses dynamic int8"):
        export_tensorrt(generator_of(DenseSkips()), (Precision.INT8_DYNAMIC,), [], tmp_path)


def test_a_broken_rule_stops_the_export_and_names_the_node() -> None:
    model = to_onnx(generator_of(DenseSkips()))
    model.graph.node[0].op_type = "QLinearConv"
    with pytest.raises(ExportError, match=rf"node '{model.graph.node[0].name}'.*QLinearConv \[refused-node\]"):
        refuse_violations(model, "tensorrt/int8")


def test_pixel_inputs_are_refused_by_name(tmp_path: Path) -> None:
    generator = generator_of(DenseSkips())
    (given,) = generator.spec.inputs
    spec = dataclasses.replace(generator.spec, inputs=(dataclasses.replace(given, dtype="uint8"),))
    with pytest.raises(ExportError, match="'image' is uint8"):
        export_tensorrt(dataclasses.replace(generator, spec=spec), (Precision.F32,), [], tmp_path)


def test_a_generator_of_two_inputs_keeps_their_order_and_names(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.style = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.conv(x) + 2 * self.style(y))

    one = generator_of(nn.Sequential(nn.Conv2d(3, 4, 1)))
    (image,) = one.spec.inputs
    spec = dataclasses.replace(one.spec, inputs=(image, dataclasses.replace(image, name="label", kind=Kind.LABEL_MAP)))
    from edgegen.graph import trace

    torch.manual_seed(0)
    generator = dataclasses.replace(one, module=trace(Two()), spec=spec)
    inputs = [(a, b) for (a,), (b,) in zip(samples(one, 4, seed=1), samples(one, 4, seed=2), strict=True)]
    (artifact,) = export_tensorrt(generator, (Precision.INT8,), inputs, tmp_path)
    assert artifact.entry.settings["input_names"] == ["image", "label"]
    assert artifact.entry.backend == Backend.TENSORRT.value
    assert psnr_db(run(model_of(artifact), inputs), torch_outputs(generator, inputs)) > 35.0


@pytest.mark.slow
def test_a_real_super_resolver_keeps_its_pictures(shared_checkpoints: Path, shared_images: Path, tmp_path: Path) -> None:
    from PIL import Image

    from edgegen.load import load

    generator = lower_for_tensorrt(load(shared_checkpoints / "srgan_x4" / "netG_epoch_4_100.pth", resolution=(32, 32)))
    photos = [
        Image.open(path).convert("RGB").resize((32, 32)) for path in sorted((shared_images / "street_test").glob("*.png"))[:8]
    ]
    inputs = [(np.asarray(photo, dtype=np.float32).transpose(2, 0, 1)[None] / 255,) for photo in photos]
    references = torch_outputs(generator, inputs[4:])
    seen = {
        a.entry.precision: psnr_db(run(model_of(a), inputs[4:]), references)
        for a in export_tensorrt(generator, ALL, inputs[:4], tmp_path)
    }
    assert seen["f32"] > 110 and seen["f16"] > 70 and seen["int8"] > 38, seen
