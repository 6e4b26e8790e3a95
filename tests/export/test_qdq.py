"""Q/DQ nodes stand where TensorRT fuses them, and hold what it reads."""

import numpy as np
import onnx
import pytest
import torch
from small_generators import Dcgan, DenseSkips, SuperResolver, UNet, generator_of, samples
from torch import nn

from edgegen.export.onnx_graph import attribute, constants, feeds, makers, readers, to_onnx
from edgegen.export.onnx_half import to_half
from edgegen.export.onnx_ranges import outputs, peaks, psnr_db
from edgegen.export.qdq import insert_qdq, quantizable, quantized_edges, scales
from edgegen.rewrite.tensorrt import lower_for_tensorrt


def quantized(net: nn.Module, shape: tuple[int, ...] = (3, 32, 32)) -> tuple[onnx.ModelProto, dict[str, float]]:
    """Return `net` with everything in int8 that can be, float32 around it, and the ranges it was made with."""
    generator = lower_for_tensorrt(generator_of(net, shape))
    model = to_onnx(generator)
    bounds = peaks(model, feeds(model, samples(generator, 2, seed=1)))
    return insert_qdq(model, quantizable(model), bounds), bounds


@pytest.fixture(scope="module")
def resolver() -> tuple[onnx.ModelProto, dict[str, float]]:
    return quantized(SuperResolver())


@pytest.fixture(scope="module")
def dense() -> tuple[onnx.ModelProto, dict[str, float]]:
    return quantized(DenseSkips())


def test_data_and_weight_of_every_convolution_come_from_int8(resolver: tuple[onnx.ModelProto, dict[str, float]]) -> None:
    made_by = makers(resolver[0])
    for node in resolver[0].graph.node:
        if node.op_type == "Conv":
            assert [made_by[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
            assert node.input[2] in constants(resolver[0])


def test_concatenated_tensors_share_the_scale_of_the_largest(dense: tuple[onnx.ModelProto, dict[str, float]]) -> None:
    model, bounds = dense
    made_by, values = makers(model), constants(model)
    concats = [node for node in model.graph.node if node.op_type == "Concat"]
    assert len(concats) == 2
    for node in concats:
        after = next(r for r in readers(model)[node.output[0]] if r.op_type == "QuantizeLinear")
        used = {float(values[made_by[name].input[1]]) for name in node.input} | {float(values[after.input[1]])}
        assert len(used) == 1
        assert used.pop() >= max(bounds[made_by[made_by[name].input[0]].input[0]] for name in node.input) / 127


def test_a_concat_that_something_else_reads_too_stays_in_float() -> None:
    model, _ = quantized(UNet())  # its Concats go through ReLU first
    made_by = makers(model)
    for node in model.graph.node:
        if node.op_type == "Concat":
            assert all(made_by[name].op_type != "DequantizeLinear" for name in node.input)


def test_the_branch_beside_an_int8_convolution_is_int8(resolver: tuple[onnx.ModelProto, dict[str, float]]) -> None:
    made_by = makers(resolver[0])
    adds = [node for node in resolver[0].graph.node if node.op_type == "Add" and all(name in made_by for name in node.input)]
    assert len(adds) == 3
    for node in adds:
        assert sorted(made_by[name].op_type for name in node.input) == ["Conv", "DequantizeLinear"]


def test_a_tensor_is_quantized_once_for_all_its_readers(resolver: tuple[onnx.ModelProto, dict[str, float]]) -> None:
    read = [node.input[0] for node in resolver[0].graph.node if node.op_type == "QuantizeLinear"]
    assert len(read) == len(set(read))


def test_zero_points_are_constant_int8_zeros_of_the_size_of_the_scale(resolver: tuple[onnx.ModelProto, dict[str, float]]) -> None:
    values = constants(resolver[0])
    for node in resolver[0].graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale, zero = values[node.input[1]], values[node.input[2]]
            assert (zero.dtype, zero.shape, int(np.abs(zero).sum())) == (np.int8, scale.shape, 0)


def test_scales_of_weights_run_along_the_output_channels() -> None:
    model, _ = quantized(Dcgan(), (16,))
    values, made_by, axes = constants(model), makers(model), {}
    for node in model.graph.node:
        if node.op_type in ("Gemm", "ConvTranspose"):
            dequantize = made_by[node.input[1]]
            weight = values[made_by[dequantize.input[0]].input[0]]
            size, axis = values[dequantize.input[1]].size, attribute(dequantize, "axis", None)
            axes[node.op_type] = (size, axis)
            if node.op_type == "Gemm":
                assert size == weight.shape[axis] == 512
    assert axes == {"Gemm": (512, 0), "ConvTranspose": (1, None)}


def test_weights_lie_on_the_int8_grid_in_half_precision_too(dense: tuple[onnx.ModelProto, dict[str, float]]) -> None:
    half, _ = to_half(*dense)
    values, found = constants(half), 0
    for node in half.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in values:
            assert values[node.input[0]].dtype == values[node.input[1]].dtype == np.float16
            steps = values[node.input[0]].astype(np.float64) / values[node.input[1]].astype(np.float64).reshape(-1, 1, 1, 1)
            # f16 keeps 11 bits: at most 127 / 2048 of a step off, far from the half step where rounding goes astray
            assert np.abs(steps - np.round(steps)).max() < 0.07
            assert np.abs(np.round(steps)).max() == 127
            found += 1
    assert found == 4


class Grouped(nn.Module):
    """A grouped convolution that int8 takes, a depthwise one that it does not, plain ones around them."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.fours = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.depthwise, self.last = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.last(self.depthwise(self.fours(self.plain(x)))))


def test_groups_that_int8_kernels_lack_stay_in_float() -> None:
    assert quantizable(to_onnx(generator_of(Grouped()))) == ["plain/Conv", "fours/Conv", "last/Conv"]


def test_leaving_nodes_out_leaves_their_inputs_in_float() -> None:
    model = to_onnx(lower_for_tensorrt(generator_of(SuperResolver())))
    edges, _ = quantized_edges(model, ["mid.0/Conv"])
    (beside,) = readers(model)[next(n for n in model.graph.node if n.name == "mid.0/Conv").output[0]]
    assert edges == [("mid.0/Conv", 0), (beside.name, 1)]


def test_int8_is_near_the_float_pictures() -> None:
    generator = generator_of(DenseSkips())
    model = to_onnx(generator)
    given = feeds(model, samples(generator, 2, seed=1))
    made = insert_qdq(model, quantizable(model), peaks(model, given))
    assert psnr_db(outputs(made, given), outputs(model, given)) > 30.0  # 7 bits behind a ReLU are 42 dB; four layers and tanh


@pytest.mark.parametrize("bound", [0.0, 1e-9, 1e-4, 0.02, 1.0, 3.3, 6e4])
def test_a_scale_is_positive_covers_its_range_and_is_a_float16(bound: float) -> None:
    scale = float(scales(np.float32(bound)))
    assert scale > 0
    assert float(np.float16(scale)) == scale
    assert 127 * scale >= bound
