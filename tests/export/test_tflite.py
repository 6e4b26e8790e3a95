"""Generators of every construct become .tflite files that LiteRT runs on one delegate and that give torch's pictures."""

import dataclasses
import logging

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from single_nodes import fully_int8
from single_nodes import generator_of as generator_around
from torch import nn

from edgegen.errors import ExportError
from edgegen.export import litert_quantize
from edgegen.export.litert_convert import convert, muted
from edgegen.export.litert_graph import read_operations
from edgegen.export.litert_islands import in_int8_forms
from edgegen.export.tflite import export_litert
from edgegen.generator import Generator
from edgegen.graph import example_inputs, trace
from edgegen.layers import PixelsIn, PixelsOut, Reshape, Scale
from edgegen.load.families.resnet import ResnetGenerator
from edgegen.rewrite.litert import lower_for_litert
from edgegen.runtime.runners import open_runner
from edgegen.spec import Backend, ComponentSpec, Kind, Layout, Precision, TensorSpec

ALL = (Precision.F32, Precision.F16, Precision.INT8_DYNAMIC, Precision.INT8)
# Floors in dB against the torch output, which has a standard deviation of about a quarter of its range. They allow twice the
# error that was seen at worst (6 dB) and a little. f32: rounding, 130 seen. f16: weights lose 13 of 24 bits, 77 seen. int8:
# dynamic ranges are those of the picture itself, 46 seen; static ones are those of all calibration pictures, 40 seen.
FLOOR_DB = {Precision.F32: 120.0, Precision.F16: 68.0, Precision.INT8_DYNAMIC: 38.0, Precision.INT8: 33.0}


def generator_of(net: nn.Module, *shapes: tuple[int, ...]) -> Generator:
    """Return `net` with settled norms and a last layer that makes tanh use its range; inputs in [-1, 1] or unit normal."""
    torch.manual_seed(0)
    inputs = tuple(
        TensorSpec(f"x{i}", Kind.IMAGE, s, Layout.CHW, low=-1.0, high=1.0)
        if len(s) == 3 and s[1] > 1
        else TensorSpec(f"x{i}", Kind.LATENT, s, Layout.CHW if len(s) == 3 else Layout.D)
        for i, s in enumerate(shapes)
    )
    spec = ComponentSpec("generator", inputs, ())
    heads = []
    tanh = [m for m in net.modules() if isinstance(m, nn.Tanh)][-1]
    hook = tanh.register_forward_pre_hook(lambda _, values: heads.append(values[0]))
    for norm in (m for m in net.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))):
        norm.momentum = None  # the plain mean over all batches
    with torch.no_grad():
        for seed in range(5):
            image = net.train()(*example_inputs(spec, batch=4, seed=seed))
        net.eval()(*example_inputs(spec))
        last = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))][-1]
        last.weight *= 0.6 / heads[-1].std()
    hook.remove()
    outputs = (TensorSpec("image", Kind.IMAGE, tuple(image.shape[1:]), Layout.CHW, low=-1.0, high=1.0),)
    return Generator(trace(net), dataclasses.replace(spec, outputs=outputs), "test", {}, {})


def inputs_of(generator: Generator, seed: int) -> tuple[np.ndarray, ...]:
    return tuple(x.numpy() for x in example_inputs(generator.spec, seed=seed))


def run(artifact, arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    """Run the file in LiteRT as a device does; arrays and result are channels-first."""
    interpreter = Interpreter(model_path=str(artifact.folder / artifact.entry.entry), num_threads=1)
    runner = interpreter.get_signature_runner(artifact.entry.settings["signature"])
    feed = {}
    for tensor, array in zip(artifact.entry.io.inputs, arrays, strict=True):
        feed[tensor.name] = array.transpose(0, 2, 3, 1) if tensor.layout is Layout.HWC else array
        assert feed[tensor.name].shape == (1, *tensor.shape)
    result = runner(**feed)[artifact.entry.settings["output_names"][0]]
    assert result.shape == (1, *artifact.entry.io.outputs[0].shape) and result.dtype == np.float32
    return result.transpose(0, 3, 1, 2)


def psnr_db(image: np.ndarray, reference: np.ndarray) -> float:
    """PSNR of images in [-1, 1]."""
    return float(10 * np.log10(4 / np.mean((image - reference) ** 2)))


class Residual(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.block = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.block(x)


class UNet(nn.Module):
    """Two levels with a skip that is concatenated, standalone activations around it."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(3, 16, 4, 2, 1)
        self.down2 = nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(16, 32, 4, 2, 1), nn.BatchNorm2d(32))
        self.up2 = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.BatchNorm2d(16))
        self.up1 = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(32, 3, 4, 2, 1), nn.Tanh())

    def forward(self, x):
        skip = self.down1(x)
        return self.up1(torch.cat([self.up2(self.down2(skip)), skip], 1))


class TwoInputs(nn.Module):
    """A picture and a latent that shifts its features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.shift, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(5, 8), nn.Conv2d(8, 3, 3, padding=1)
        self.tanh, self.map = nn.Tanh(), Reshape((8, 1, 1))

    def forward(self, image, latent):
        return self.tanh(self.head(self.conv(image) + self.map(self.shift(latent))))


def dcgan(*stem: nn.Module) -> nn.Module:
    up = [
        nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 3, 4, 2, 1),
        nn.Tanh(),
    ]
    return nn.Sequential(*stem, *up)


def style() -> nn.Module:
    def pad_conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
        norm = nn.InstanceNorm2d(outputs, affine=True)
        return [nn.ReflectionPad2d(kernel // 2), nn.Conv2d(inputs, outputs, kernel, stride), norm, nn.ReLU()]

    residual = Residual(*pad_conv(32, 32, 3), *pad_conv(32, 32, 3)[:-1])
    up = [nn.ConvTranspose2d(32, 16, 3, 2, 1, 1), nn.InstanceNorm2d(16, affine=True), nn.ReLU()]
    return nn.Sequential(*pad_conv(3, 16, 9), *pad_conv(16, 32, 3, 2), residual, *up, *pad_conv(16, 3, 9)[:2], nn.Tanh())


def srresnet() -> nn.Module:
    body = Residual(
        nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.PReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
    )
    up = [nn.Conv2d(16, 64, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()]
    return nn.Sequential(nn.Conv2d(3, 16, 9, padding=4), nn.PReLU(16), body, *up, nn.Conv2d(16, 3, 9, padding=4), nn.Tanh())


def space_to_depth() -> nn.Module:
    separable = Residual(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), nn.ReLU())
    head = [nn.Conv2d(16, 12, 3, padding=1), nn.PixelShuffle(2), nn.Tanh()]
    stem = [nn.PixelUnshuffle(2), nn.Conv2d(12, 16, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*stem, separable, nn.Upsample(scale_factor=2), *head)


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    net: nn.Module
    shapes: tuple[tuple[int, ...], ...]
    transposes: int = 0
    floats_after: int = 1  # layers that static int8 leaves dynamic: those in front of norms, and the last


torch.manual_seed(0)  # the same nets in every run
CONV_STEM = [nn.ConvTranspose2d(20, 64, 4, 1, 0, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
DENSE_STEM = [nn.Linear(20, 1024), nn.BatchNorm1d(1024), nn.ReLU(), Reshape((64, 4, 4))]
CASES = [
    Case("dcgan with a convolutional stem", dcgan(*CONV_STEM), ((20, 1, 1),)),
    Case("dcgan with a dense stem", dcgan(*DENSE_STEM), ((20,),)),
    Case("style with instance norm and reflection pads", style(), ((3, 64, 48),), floats_after=6),
    Case("u-net with a concatenated skip", UNet(), ((3, 64, 48),)),
    Case("srresnet with pixel shuffle and prelu", srresnet(), ((3, 32, 24),), transposes=1),
    Case("space to depth, separable, nearest upsampling", space_to_depth(), ((3, 64, 48),), transposes=2),
    Case("two inputs", TwoInputs(), ((3, 32, 24), (5,))),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_precision_gives_torchs_picture_on_one_delegate(case, tmp_path):
    generator = generator_of(case.net, *case.shapes)
    calibration = [inputs_of(generator, seed) for seed in range(1, 9)]
    artifacts = export_litert(lower_for_litert(generator), ALL, calibration, tmp_path)
    arrays = inputs_of(generator, 0)
    with torch.no_grad():
        expected = generator.module(*map(torch.from_numpy, arrays)).numpy()
    assert expected.std() > 0.3, "the floors are for pictures that use their range"
    assert [a.entry.precision for a in artifacts] == [p.value for p in ALL]
    for precision, artifact in zip(ALL, artifacts, strict=True):
        assert psnr_db(run(artifact, arrays), expected) > FLOOR_DB[precision], artifact.name
        assert (artifact.facts["partitions"], artifact.facts["left_out"]) == (1, {}), artifact.name
        assert artifact.facts["delegated_share"] == 1.0
        assert artifact.facts["transposes"] == case.transposes, artifact.facts["operations"]
    assert artifacts[1].size_bytes < artifacts[0].size_bytes
    facts = artifacts[3].facts  # static int8
    assert facts["int8_layers"] == facts["layers"] == facts["static_layers"] + case.floats_after


@pytest.mark.slow
def test_a_cyclegan_generator_converts_without_mirror_pad_or_runtime_filters_on_one_delegate(tmp_path):
    """The stock converter refuses its transposed convolutions (kernel 3, stride 2, padding 1, output padding 1)."""
    torch.manual_seed(0)
    net = ResnetGenerator(
        in_channels=3, out_channels=3, widths=[8, 16, 32], blocks=2, norm="instance", padding="reflect", block_padding="reflect",
        kernels=[7, 3, 7], up="transposed", up_kernel=3, bias=True, up_bias=True, head_bias=True, dropout=False,
    )  # fmt: skip
    generator = generator_of(net, (3, 32, 32))
    artifacts = export_litert(lower_for_litert(generator), (Precision.F32, Precision.INT8), [inputs_of(generator, 1)], tmp_path)
    for artifact in artifacts:
        assert (artifact.facts["partitions"], artifact.facts["left_out"], artifact.facts["transposes"]) == (1, {}, 0)
        assert "MIRROR_PAD" not in artifact.facts["operations"]
        content = (artifact.folder / artifact.entry.entry).read_bytes()
        convolutions = [o for o in read_operations(content) if o.kind in ("CONV_2D", "TRANSPOSE_CONV")]
        assert len(convolutions) == 10 and all(len(o.inputs) == 1 for o in convolutions)  # weights are constants


FULLY_INT8 = [case for case in CASES if "instance norm" not in case.name]


@pytest.mark.slow
@pytest.mark.parametrize("case", FULLY_INT8, ids=lambda case: case.name)
def test_a_full_integer_file_has_no_float_takes_int8_and_runs_on_one_delegate(case, tmp_path):
    generator = generator_of(case.net, *case.shapes)
    calibration = [inputs_of(generator, seed) for seed in range(1, 9)]
    (artifact,) = export_litert(lower_for_litert(generator), (Precision.INT8_FULL,), calibration, tmp_path)
    assert (artifact.facts["partitions"], artifact.facts["left_out"]) == (1, {}), artifact.facts["operations"]
    content = (artifact.folder / artifact.entry.entry).read_bytes()
    assert all(operation.gives_int8 for operation in read_operations(content))
    assert set(artifact.entry.settings["int8_ports"]) == {t.name for t in (*artifact.entry.io.inputs, *artifact.entry.io.outputs)}
    arrays = inputs_of(generator, 0)
    runner = open_runner(artifact.folder, artifact.entry, 1)
    fed = [
        a.transpose(0, 2, 3, 1) if t.layout is Layout.HWC else a for a, t in zip(arrays, artifact.entry.io.inputs, strict=True)
    ]
    (picture,) = runner.run(fed)
    runner.close()
    with torch.no_grad():
        expected = generator.module(*map(torch.from_numpy, arrays)).numpy()
    assert psnr_db(picture.transpose(0, 3, 1, 2), expected) > FLOOR_DB[Precision.INT8]


@pytest.mark.slow
def test_int8_forms_of_relu_and_leaky_relu_lose_nothing_of_the_picture(tmp_path, monkeypatch):
    torch.manual_seed(0)
    generator = generator_of(UNet(), (3, 64, 48))
    lowered, calibration = lower_for_litert(generator), [inputs_of(generator, seed) for seed in range(1, 5)]
    (after,) = export_litert(lowered, (Precision.INT8_FULL,), calibration, tmp_path / "after")
    monkeypatch.setattr(litert_quantize, "in_int8_forms", lambda content: content)
    monkeypatch.setattr(litert_quantize, "_require_int8", lambda content: None)
    (before,) = export_litert(lowered, (Precision.INT8_FULL,), calibration, tmp_path / "before")
    assert {"RELU", "DEQUANTIZE"} <= set(before.facts["operations"])
    assert not {"RELU", "DEQUANTIZE"} & set(after.facts["operations"])
    (picture,) = inputs_of(generator, 0)
    with torch.no_grad():
        expected = generator.module(torch.from_numpy(picture)).numpy().transpose(0, 2, 3, 1)
    fed = [np.ascontiguousarray(picture.transpose(0, 2, 3, 1))]
    lost_db = [psnr_db(open_runner(a.folder, a.entry, 1).run(fed)[0], expected) for a in (before, after)]
    # one rounding per activation instead of two: 43.3 dB became 43.5; half a dB is what the order of rounding may cost
    assert lost_db[1] > lost_db[0] - 0.5


def with_weights_behind(content: bytes) -> bytes:
    """Return a .tflite as large ones are written: weights behind the flatbuffer, which holds their offsets."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    file = schema.ModelT.InitFromPackedBuf(content, 0)
    moved = {i: bytes(b.data) for i, b in enumerate(file.buffers) if b.data is not None and len(b.data) > 64}
    start, packed = 1 << 20, b""
    for _ in range(2):  # the first tells how long the flatbuffer is, which the offsets do not change
        offset = start
        for index, data in moved.items():
            file.buffers[index].data, file.buffers[index].offset, file.buffers[index].size = None, offset, len(data)
            offset += -(-len(data) // 16) * 16
        builder = flatbuffers.Builder(len(content))
        builder.Finish(file.Pack(builder), file_identifier=b"TFL3")
        packed = bytes(builder.Output())
        start = -(-len(packed) // 16) * 16
    return packed.ljust(start, b"\0") + b"".join(data.ljust(-(-len(data) // 16) * 16, b"\0") for data in moved.values())


@pytest.mark.slow
def test_weights_that_lie_behind_the_flatbuffer_survive_the_change_to_int8_forms():
    net = nn.Sequential(nn.Conv2d(16, 16, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 16, 1))
    plain = fully_int8(convert(lower_for_litert(generator_around(*net))))
    behind = with_weights_behind(plain)
    assert len(behind) > len(plain) - 64 and behind != plain
    given = []
    for content in (in_int8_forms(plain), in_int8_forms(behind)):
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        (port,) = interpreter.get_input_details()
        interpreter.set_tensor(port["index"], np.arange(np.prod(port["shape"])).reshape(port["shape"]).astype(port["dtype"]))
        interpreter.invoke()
        given.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    assert np.array_equal(*given)


@pytest.mark.slow
def test_a_layer_without_an_int8_form_is_named_and_nothing_is_written(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Softplus(), nn.Conv2d(8, 3, 3, padding=1), nn.Tanh())
    generator = generator_of(net, (3, 16, 16))
    with pytest.raises(ExportError, match=r"LiteRT int8-full: \w+ '.*' has no int8 form"):
        export_litert(lower_for_litert(generator), (Precision.INT8_FULL,), [inputs_of(generator, 1)], tmp_path)
    assert not list(tmp_path.rglob("*.tflite"))


def test_an_artifact_says_what_the_file_takes_and_gives_and_nothing_reaches_the_terminal(tmp_path, capfd):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1), nn.Tanh())
    generator = generator_of(net, (3, 16, 8))
    arrays = inputs_of(generator, 0)
    (f32, int8) = export_litert(generator, (Precision.F32, Precision.INT8), [arrays], tmp_path)
    assert capfd.readouterr() == ("", "")
    assert (f32.entry.backend, f32.entry.precision, f32.folder) == (Backend.LITERT.value, "f32", tmp_path / "f32")
    assert f32.entry.settings == {"signature": "serving_default", "input_names": ["args_0"], "output_names": ["output_0"]}
    (taken,), (given,) = f32.entry.io.inputs, f32.entry.io.outputs
    assert taken == TensorSpec("args_0", Kind.IMAGE, (16, 8, 3), Layout.HWC, "float32", -1.0, 1.0)
    assert given == TensorSpec("output_0", Kind.IMAGE, (16, 8, 3), Layout.HWC, "float32", -1.0, 1.0)
    with torch.no_grad():
        expected = generator.module(torch.from_numpy(arrays[0])).numpy()
    assert psnr_db(run(f32, arrays), expected) > FLOOR_DB[Precision.F32]
    assert psnr_db(run(int8, arrays), expected) > FLOOR_DB[Precision.INT8]


@pytest.mark.slow
def test_a_generator_of_pictures_takes_and_gives_uint8(tmp_path):
    body = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1), nn.Sigmoid()]
    pixels = TensorSpec("picture", Kind.IMAGE, (16, 8, 3), Layout.HWC, "uint8", 0.0, 255.0)
    torch.manual_seed(0)
    module = trace(nn.Sequential(PixelsIn(), Scale(1 / 255, 0.0), *body, PixelsOut(255.0, 0.0)))
    generator = Generator(module, ComponentSpec("generator", (pixels,), (pixels,)), "test", {}, {})
    artifacts = export_litert(lower_for_litert(generator), (Precision.F32, Precision.INT8), [inputs_of(generator, 1)], tmp_path)
    (picture,) = inputs_of(generator, 0)
    expected = generator.module(torch.from_numpy(picture)).numpy().astype(int)
    for artifact, levels in zip(artifacts, (1, 3), strict=True):  # a value on the edge rounds either way; int8 moves it on
        interpreter = Interpreter(model_path=str(artifact.folder / artifact.entry.entry), num_threads=1)
        result = interpreter.get_signature_runner("serving_default")(args_0=picture)["output_0"]
        assert (result.dtype, artifact.entry.io.outputs[0].dtype) == (np.uint8, "uint8")
        assert abs(result.astype(int) - expected).max() <= levels
        assert set(artifact.facts["left_out"]) <= {"CAST"}


@pytest.mark.slow
def test_the_same_generator_and_calibration_give_the_same_bytes(tmp_path):
    generator = lower_for_litert(generator_of(style(), (3, 32, 32)))
    calibration = [inputs_of(generator, seed) for seed in range(3)]
    first = export_litert(generator, ALL, calibration, tmp_path / "first")
    second = export_litert(generator, ALL, calibration, tmp_path / "second")
    assert [a.entry.files for a in first] == [a.entry.files for a in second]


@pytest.mark.slow
def test_static_ranges_cover_every_calibration_input_not_only_the_first(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1), nn.Tanh())
    generator = generator_of(net, (3, 16, 16))
    bright = inputs_of(generator, 0)
    dim = tuple(x * 0.1 for x in bright)
    (artifact,) = export_litert(generator, (Precision.INT8,), [dim, dim, bright], tmp_path)
    with torch.no_grad():
        expected = generator.module(torch.from_numpy(bright[0])).numpy()
    # A moving average that starts at `dim` clips: 17 dB, against 53 dB with the ranges of all three.
    assert psnr_db(run(artifact, bright), expected) > FLOOR_DB[Precision.INT8]


@pytest.mark.slow
@pytest.mark.parametrize("slope", [-0.3, 0.0, 1.7])
def test_unusual_prelu_slopes_survive(slope, tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.PReLU(init=slope), nn.Conv2d(8, 3, 3, padding=1), nn.Tanh())
    generator = generator_of(net, (3, 16, 16))
    (artifact,) = export_litert(lower_for_litert(generator), (Precision.F32,), [], tmp_path)
    arrays = inputs_of(generator, 0)
    with torch.no_grad():
        expected = generator.module(torch.from_numpy(arrays[0])).numpy()
    assert psnr_db(run(artifact, arrays), expected) > FLOOR_DB[Precision.F32]


@pytest.mark.slow
def test_a_layer_that_does_not_convert_is_named(tmp_path):
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.ConvTranspose2d(4, 3, 3, 2, 1, 1), nn.Tanh()
    )
    with pytest.raises(ExportError, match=r"node '2' \(ConvTranspose2d\): failed to legalize operation 'mhlo.convolution'"):
        export_litert(generator_of(net, (3, 16, 16)), (Precision.F32,), [], tmp_path)


@pytest.mark.slow
def test_static_int8_without_calibration_inputs_is_refused(tmp_path):
    generator = generator_of(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Tanh()), (3, 8, 8))
    with pytest.raises(ExportError, match="calibration"):
        export_litert(generator, (Precision.INT8,), [], tmp_path)


def test_muting_restores_the_terminal_and_the_log_and_lets_errors_through(capfd, caplog):
    with pytest.raises(ExportError), muted():
        logging.getLogger("converter").error("noise")
        raise ExportError("the node 'up'")
    logging.getLogger("after").warning("heard")
    assert [record.message for record in caplog.records] == ["heard"]
    assert capfd.readouterr().err == ""
