"""Each rule of TensorRT finds its planted violation, names the node, and finds nothing in a sound file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from small_generators import SuperResolver, UNet, generator_of, samples
from torch import nn

from edgegen.export.onnx_graph import add_constant, constants, feeds, makers, to_onnx
from edgegen.export.onnx_half import to_half
from edgegen.export.onnx_ranges import peaks
from edgegen.export.tensorrt import export_tensorrt
from edgegen.export.tensorrt_rules import Violation, check_tensorrt_rules, uneven_channels
from edgegen.rewrite.tensorrt import lower_for_tensorrt
from edgegen.spec import Precision


def int8_model(net: nn.Module, folder: Path) -> onnx.ModelProto:
    generator = lower_for_tensorrt(generator_of(net))
    (artifact,) = export_tensorrt(generator, (Precision.INT8,), samples(generator, 2, seed=1), folder)
    return onnx.load(str(artifact.folder / "model.onnx"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """An int8 file with residual Adds and per-channel weights."""
    return int8_model(SuperResolver(8), tmp_path_factory.mktemp("sound"))


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def put(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    """Give the constant `name` another value."""
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(value, name))


def first(model: onnx.ModelProto, operation: str, *, weight: bool = False) -> onnx.NodeProto:
    """Return the first node of a kind; with `weight`, the first that works on a weight."""
    return next(n for n in model.graph.node if n.op_type == operation and weight == n.name.split("/")[-2].endswith("weight"))


def nonzero_point(model: onnx.ModelProto) -> onnx.NodeProto:
    node = first(model, "QuantizeLinear")
    node.input[2] = add_constant(model, "three", np.array(3, dtype=np.int8))
    return node


def computed_zero_point(model: onnx.ModelProto) -> onnx.NodeProto:
    node = first(model, "QuantizeLinear")
    model.graph.node.insert(0, helper.make_node("Neg", [node.input[2]], ["zero"], name="neg"))
    node.input[2] = "zero"
    return node


def unsigned(model: onnx.ModelProto) -> onnx.NodeProto:
    node = first(model, "QuantizeLinear")
    node.input[2] = add_constant(model, "unsigned", np.array(0, dtype=np.uint8))
    return node


def wrong_weight_axis(model: onnx.ModelProto) -> onnx.NodeProto:
    node = next(n for n in model.graph.node if n.name == "mid.0/Conv/weight/DequantizeLinear")  # square: sizes alone do not tell
    next(a for a in node.attribute if a.name == "axis").i = 1
    return node


def zero_scale(model: onnx.ModelProto) -> onnx.NodeProto:
    node = first(model, "QuantizeLinear", weight=True)
    scale = constants(model)[node.input[1]].copy()
    scale[0] = 0
    put(model, node.input[1], scale)
    return node


def nan_scale(model: onnx.ModelProto) -> onnx.NodeProto:
    node = first(model, "QuantizeLinear")
    put(model, node.input[1], np.full_like(constants(model)[node.input[1]], np.nan))
    return node


def computed_scale(model: onnx.ModelProto) -> onnx.NodeProto:
    node = first(model, "DequantizeLinear")
    model.graph.node.insert(0, helper.make_node("Abs", [node.input[1]], ["computed"], name="abs"))
    node.input[1] = "computed"
    return node


def activation_per_channel(model: onnx.ModelProto) -> onnx.NodeProto:
    node = first(model, "QuantizeLinear")
    scale = constants(model)[node.input[1]]
    node.input[1] = add_constant(model, "many", np.full(3, scale, dtype=scale.dtype))
    node.input[2] = add_constant(model, "zeros", np.zeros(3, dtype=np.int8))
    return node


def refused_node(model: onnx.ModelProto) -> onnx.NodeProto:
    node = next(n for n in model.graph.node if n.op_type == "LeakyRelu")
    node.op_type = "DynamicQuantizeLinear"
    return node


def custom_domain(model: onnx.ModelProto) -> onnx.NodeProto:
    node = next(n for n in model.graph.node if n.op_type == "LeakyRelu")
    node.domain = "com.microsoft"
    return node


def identity_before_quantize(model: onnx.ModelProto) -> onnx.NodeProto:
    conv = next(n for n in model.graph.node if n.op_type == "Conv")
    scale, zero = first(model, "QuantizeLinear").input[1:3]
    identity = helper.make_node("Identity", [conv.output[0]], ["same"], name="identity")
    model.graph.node.extend([identity, helper.make_node("QuantizeLinear", ["same", scale, zero], ["same/int8"], name="late")])
    return identity


def mixed_types(model: onnx.ModelProto) -> onnx.NodeProto:
    node = next(n for n in model.graph.node if n.op_type == "Div")
    node.input[1] = add_constant(model, "float_two", np.array(2, dtype=np.float32))
    return node


def scale_of_another_type(model: onnx.ModelProto) -> onnx.NodeProto:
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and makers(model).get(n.input[0]) is not None)
    node.input[1] = add_constant(model, "float_scale", np.array(0.1, dtype=np.float32))
    return node


def float_residual(model: onnx.ModelProto) -> onnx.NodeProto:
    made_by = makers(model)
    node = next(n for n in model.graph.node if n.op_type == "Add" and all(name in made_by for name in n.input))
    for index, name in enumerate(node.input):
        if made_by[name].op_type == "DequantizeLinear":
            node.input[index] = made_by[made_by[name].input[0]].input[0]
    return node


def float_weight(model: onnx.ModelProto) -> onnx.NodeProto:
    node = next(n for n in model.graph.node if n.op_type == "Conv")
    node.input[1] = makers(model)[makers(model)[node.input[1]].input[0]].input[0]
    return node


def int8_bias(model: onnx.ModelProto) -> onnx.NodeProto:
    node = next(n for n in model.graph.node if n.op_type == "Conv")
    size = constants(model)[node.input[2]].size
    bias = add_constant(model, "bias", np.zeros(size, dtype=np.int8))
    scale, zero = first(model, "QuantizeLinear").input[1:3]
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", [bias, scale, zero], ["bias/float"], name="bias_dq"))
    node.input[2] = "bias/float"
    return node


def odd_groups(model: onnx.ModelProto) -> onnx.NodeProto:
    node = next(n for n in model.graph.node if n.name == "body.0.conv1/Conv")
    node.attribute.extend([helper.make_attribute("group", 8)]) if not any(a.name == "group" for a in node.attribute) else None
    next(a for a in node.attribute if a.name == "group").i = 8
    weight = makers(model)[makers(model)[node.input[1]].input[0]].input[0]
    put(model, weight, constants(model)[weight][:, :1])
    return node


PLANTED: dict[str, tuple[str, Callable[[onnx.ModelProto], onnx.NodeProto]]] = {
    "a zero point that is not 0": ("zero-point", nonzero_point),
    "a zero point that is computed": ("zero-point", computed_zero_point),
    "unsigned int8": ("not-int8", unsigned),
    "weight scales on the input axis": ("weight-axis", wrong_weight_axis),
    "a scale of 0": ("scale", zero_scale),
    "a scale that is NaN": ("scale", nan_scale),
    "a scale that is computed": ("scale", computed_scale),
    "an activation per channel": ("activation-per-channel", activation_per_channel),
    "a node without an importer": ("refused-node", refused_node),
    "a node of a private domain": ("custom-domain", custom_domain),
    "an Identity before Q": ("identity-before-quantize", identity_before_quantize),
    "two element types in one node": ("mixed-types", mixed_types),
    "a float32 scale on float16": ("mixed-types", scale_of_another_type),
    "a float residual branch": ("residual", float_residual),
    "a float weight with an int8 input": ("half-quantized", float_weight),
    "an int8 bias": ("bias", int8_bias),
    "one channel per group": ("group-channels", odd_groups),
}


@pytest.mark.parametrize("name", PLANTED, ids=str)
def test_a_planted_violation_is_found_and_its_node_named(sound: onnx.ModelProto, name: str) -> None:
    rule, plant = PLANTED[name]
    model = copy_of(sound)
    node = plant(model)
    assert (rule, node.name) in [(v.rule, v.node) for v in check_tensorrt_rules(model)]


def test_a_sound_file_breaks_no_rule(sound: onnx.ModelProto) -> None:
    assert check_tensorrt_rules(sound) == []


def test_an_axis_without_a_size_is_found(sound: onnx.ModelProto) -> None:
    model = copy_of(sound)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    (violation,) = check_tensorrt_rules(model)
    assert violation == Violation("dynamic-shape", "", "image", "'image' has an axis without a size")


def test_an_opset_that_tensorrt_10_3_cannot_read_is_found(sound: onnx.ModelProto) -> None:
    model = copy_of(sound)
    model.opset_import[0].version = 21
    assert "opset" in {v.rule for v in check_tensorrt_rules(model)}


def test_conv_transpose_with_a_scale_per_channel_is_found(tmp_path: Path) -> None:
    """Exporting keeps ConvTranspose in float or gives it one scale; both pass, a scale per channel does not."""
    weight = np.ones((4, 4, 2, 2), dtype=np.float32)
    values = {
        "w": weight,
        "s": np.array(0.1, np.float32),
        "z": np.array(0, np.int8),
        "many": np.full(4, 0.1, np.float32),
        "zeros": np.zeros(4, np.int8),
    }
    shape = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4, size, size]) for name, size in (("x", 8), ("y", 9))
    ]

    def model(scale: str, zero: str) -> onnx.ModelProto:
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], name="xq"),
            helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"], name="xd"),
            helper.make_node("QuantizeLinear", ["w", scale, zero], ["wq"], name="wq", axis=1),
            helper.make_node("DequantizeLinear", ["wq", scale, zero], ["wd"], name="wd", axis=1),
            helper.make_node("ConvTranspose", ["xd", "wd"], ["y"], name="up"),
        ]
        stored = [numpy_helper.from_array(value, name) for name, value in values.items()]
        return helper.make_model(
            helper.make_graph(nodes, "g", shape[:1], shape[1:], stored), opset_imports=[helper.make_opsetid("", 20)]
        )

    assert check_tensorrt_rules(model("s", "z")) == []
    assert {(v.rule, v.node) for v in check_tensorrt_rules(model("many", "zeros"))} == {
        ("conv-transpose-per-channel", "wd"),
        ("conv-transpose-per-channel", "wq"),
    }


def test_exported_conv_transposes_have_at_most_one_scale(tmp_path: Path) -> None:
    assert check_tensorrt_rules(int8_model(UNet(), tmp_path)) == []


class LoudStem(nn.Module):
    """A convolution that passes what float16 can hold, in front of a norm that takes it away again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.InstanceNorm2d(8), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.head(torch.relu(self.norm(self.conv(x)))))


def test_a_float16_value_that_overflows_before_a_norm_is_found_and_the_export_takes_it_away(tmp_path: Path) -> None:
    generator = lower_for_tensorrt(generator_of(LoudStem()))
    with torch.no_grad():
        generator.module.get_submodule("conv").weight *= 5e4
    inputs = samples(generator, 2, seed=1)
    model = to_onnx(generator)
    reached = peaks(model, feeds(model, inputs))
    unguarded, _ = to_half(model, {})
    (violation,) = [v for v in check_tensorrt_rules(unguarded, reached) if v.rule == "half-overflow"]
    assert violation.node == "conv/Conv" and "float16 ends at 65504" in violation.message
    assert check_tensorrt_rules(unguarded) == []  # without ranges nothing can be said
    export_tensorrt(generator, (Precision.F16, Precision.INT8), inputs, tmp_path)  # refuses its own violations


def test_channels_that_tensor_cores_would_pad_are_told_but_not_those_of_the_head(tmp_path: Path) -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 40, 3, padding=1), nn.ReLU(), nn.Conv2d(40, 3, 1)
    )
    (told,) = uneven_channels(int8_model(net, tmp_path))
    assert (told.rule, told.node, told.message) == ("channel-multiple", "2/Conv", "40 output channels are computed as 64")
