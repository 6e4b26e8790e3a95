"""Ranges and float layers of int8 files are chosen by what the pictures lose."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from small_generators import DenseSkips, UNet, generator_of, samples
from torch import nn

from edgegen.errors import ExportError
from edgegen.export.int8_search import Int8Choice, choose_int8
from edgegen.export.onnx_graph import feeds, to_onnx
from edgegen.export.onnx_ranges import outputs, peaks, psnr_db
from edgegen.export.qdq import quantizable
from edgegen.ranges import LearnedRange, weight_digest


def chosen(net: nn.Module) -> tuple[Int8Choice, float]:
    """Return the choice for `net` and its PSNR measured again."""
    generator = generator_of(net)
    model = to_onnx(generator)
    given = feeds(model, samples(generator, 4, seed=1))
    choice = choose_int8(model, peaks(model, given), given)
    return choice, psnr_db(outputs(choice.model, given), outputs(model, given))


@pytest.mark.parametrize("net", [DenseSkips, UNet])
def test_the_best_way_to_set_ranges_is_kept(net: type[nn.Module]) -> None:
    choice, measured = chosen(net())
    tried = {name: level for name, level in choice.tried.items() if not name.endswith("in float")}
    assert {"min-max", "percentile", "least-error", "entropy"} <= set(tried)
    assert tried[choice.ranges] == max(tried.values())
    assert choice.psnr_db == pytest.approx(measured, abs=0.01)


def test_a_layer_stays_in_float_only_for_more_than_1_db() -> None:
    choice, _ = chosen(DenseSkips())
    level = choice.tried[choice.ranges]
    for label, tried in choice.tried.items():
        if label.endswith("in float") and tried > level + 1.0:
            level = tried
    assert level == choice.psnr_db
    assert set(choice.quantized).isdisjoint(choice.kept_float)


def test_a_range_per_tensor_is_at_least_as_good_as_the_best_one_for_all() -> None:
    choice, _ = chosen(DenseSkips())
    tried = [level for name, level in choice.tried.items() if not name.endswith("in float")]
    assert "picture-driven" in choice.tried and choice.tried[choice.ranges] == max(tried)


def test_learned_ranges_find_their_layers_by_the_weights_and_are_kept_where_they_serve_best() -> None:
    torch.manual_seed(0)
    first, last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
    generator = generator_of(nn.Sequential(first, nn.ReLU(), last, nn.Tanh()))
    model = to_onnx(generator)
    given = feeds(model, samples(generator, 4, seed=1))
    reached = peaks(model, given)
    digests = [weight_digest(layer.weight.detach().numpy()) for layer in (first, last)]
    read = [node.input[0] for node in model.graph.node if node.name in quantizable(model)]
    exact = [LearnedRange(digest, -reached[name], reached[name]) for digest, name in zip(digests, read, strict=True)]
    assert choose_int8(model, reached, given, exact).tried["learned"] == choose_int8(model, reached, given).tried["min-max"]
    narrow = [LearnedRange(digest, -0.01, 0.01) for digest in digests]
    assert choose_int8(model, reached, given, narrow).tried["learned"] < 30
    foreign = [LearnedRange("0" * 64, -0.01, 0.01)]
    assert choose_int8(model, reached, given, foreign).tried["learned"] == choose_int8(model, reached, given).tried["min-max"]


def test_a_generator_without_weights_has_nothing_for_int8() -> None:
    model = to_onnx(generator_of(nn.Sequential(nn.Upsample(scale_factor=2))))
    with pytest.raises(ExportError, match="no convolution"):
        choose_int8(model, {}, [])


def passing(values: np.ndarray) -> tuple[onnx.ModelProto, list[dict[str, np.ndarray]]]:
    """Return a graph whose one computed tensor equals its input, and that input."""
    shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(values.shape)) for name in "xy"]
    one = numpy_helper.from_array(np.array(1, np.float32), "one")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "one"], ["y"], name="n")], "g", shape[:1], shape[1:], [one])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), [{"x": values.astype(np.float32)}]


def test_a_tensor_that_is_not_finite_is_named() -> None:
    model, given = passing(np.array([1.0, np.inf]))
    with pytest.raises(ExportError, match="'x' is not finite"):
        peaks(model, given)
