"""float16 files compute in one type per node, and what would overflow does not."""

import numpy as np
import onnx
import pytest
import torch
from small_generators import DenseSkips, Style, generator_of, samples
from torch import nn

from edgegen.export.onnx_graph import attribute, constants, feeds, makers, to_onnx
from edgegen.export.onnx_half import HALF_LIMIT, scale_before_norms, to_half
from edgegen.export.onnx_ranges import outputs, peaks, psnr_db
from edgegen.export.tensorrt_rules import check_tensorrt_rules


@pytest.fixture(scope="module")
def style() -> tuple[onnx.ModelProto, list[dict[str, np.ndarray]]]:
    generator = generator_of(Style())
    model = to_onnx(generator)
    return model, feeds(model, samples(generator, 2, seed=1))


def test_scaling_before_a_norm_changes_no_bit_of_the_picture(style: tuple[onnx.ModelProto, list[dict[str, np.ndarray]]]) -> None:
    """Powers of two: every product, mean, variance and epsilon moves its exponent and keeps its digits."""
    model, given = style
    seen = peaks(model, given)
    loud = {name: peak * 1e4 for name, peak in seen.items()}
    scaled, reached = scale_before_norms(model, loud)
    convs = [node.output[0] for node in model.graph.node if node.op_type == "Conv"]
    assert sum(reached[name] < loud[name] for name in convs) == 7  # all but the head
    assert max(reached[name] for name in convs[:-1]) <= HALF_LIMIT
    for a, b in zip(outputs(scaled, given), outputs(model, given), strict=True):
        assert np.array_equal(a[0], b[0])


def test_quiet_convolutions_are_not_scaled(style: tuple[onnx.ModelProto, list[dict[str, np.ndarray]]]) -> None:
    model, given = style
    seen = peaks(model, given)
    scaled, reached = scale_before_norms(model, seen)
    assert (reached, scaled.SerializeToString(deterministic=True)) == (seen, model.SerializeToString(deterministic=True))


def test_epsilon_shrinks_with_the_square_of_the_scale(style: tuple[onnx.ModelProto, list[dict[str, np.ndarray]]]) -> None:
    model, _ = style
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    scaled, _ = scale_before_norms(model, {conv.output[0]: 3 * HALF_LIMIT})
    norm = next(node for node in scaled.graph.node if node.op_type == "InstanceNormalization")
    assert attribute(norm, "epsilon", None) == pytest.approx(1e-5 / 16)


def test_an_epsilon_that_would_vanish_leaves_the_convolution_alone(
    style: tuple[onnx.ModelProto, list[dict[str, np.ndarray]]],
) -> None:
    model, _ = style
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    _, reached = scale_before_norms(model, {conv.output[0]: 1e9})
    assert reached[conv.output[0]] == 1e9
    half, pinned = to_half(model, {conv.output[0]: 1e9})
    assert pinned == ["layers.1/Conv", "layers.2/InstanceNormalization"]
    assert check_tensorrt_rules(half) == []


def test_two_types_meet_in_one_cast_per_tensor_and_type() -> None:
    model = to_onnx(generator_of(DenseSkips()))
    concat = next(node for node in model.graph.node if node.op_type == "Concat")
    half, pinned = to_half(model, {concat.output[0]: 1e6})
    casts = [(node.input[0], attribute(node, "to", None)) for node in half.graph.node if node.op_type == "Cast"]
    assert len(casts) == len(set(casts))
    assert concat.name in pinned
    assert check_tensorrt_rules(half) == []
    onnx.checker.check_model(half, full_check=True)


class SharedOutput(nn.Module):
    """A result that is an output and goes on inside."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.b(torch.relu(self.a(x))))


def test_an_output_that_is_read_inside_stays_float32_outside() -> None:
    generator = generator_of(SharedOutput())
    model = to_onnx(generator)
    middle = next(node for node in model.graph.node if node.op_type == "Relu").output[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(middle, onnx.TensorProto.FLOAT, [1, 3, 32, 32]))
    given = feeds(model, samples(generator, 2, seed=1))
    half, _ = to_half(model, peaks(model, given))
    onnx.checker.check_model(half, full_check=True)
    assert check_tensorrt_rules(half) == []
    assert makers(half)[middle].op_type == "Cast"
    assert psnr_db(outputs(half, given), outputs(model, given)) > 55.0  # 11 bits per rounding are 68 dB


def test_the_scales_of_resize_stay_float32(style: tuple[onnx.ModelProto, list[dict[str, np.ndarray]]]) -> None:
    half, _ = to_half(style[0], {})
    resize = next(node for node in half.graph.node if node.op_type == "Resize")
    assert constants(half)[resize.input[2]].dtype == np.float32
