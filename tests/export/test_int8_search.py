"""Ranges and float layers of int8 files are chosen by what the pictures lose."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_generators import DenseSkips, UNet, generator_of, samples
from torch import nn

from edgegen.errors import ExportError
from edgegen.export.int8_search import Int8Choice, choose_int8
from edgegen.export.onnx_graph import feeds, to_onnx
from edgegen.export.onnx_ranges import histograms, least_error_bound, outputs, peaks, percentile_bound, psnr_db


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
    tried = {name: level for name, level in choice.tried.items() if name in ("min-max", "percentile", "least-error")}
    assert len(tried) == 3
    assert choice.ranges == max(tried, key=tried.__getitem__)
    assert choice.psnr_db == pytest.approx(measured, abs=0.01)


def test_a_layer_stays_in_float_only_for_more_than_1_db() -> None:
    choice, _ = chosen(DenseSkips())
    level = choice.tried[choice.ranges]
    for label, tried in choice.tried.items():
        if label.endswith("in float") and tried > level + 1.0:
            level = tried
    assert level == choice.psnr_db
    assert set(choice.quantized).isdisjoint(choice.kept_float)


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


def test_a_percentile_cuts_off_what_is_rare() -> None:
    values = np.concatenate([np.linspace(-1, 1, 99_990), np.full(10, 50.0)])
    model, given = passing(values)
    highest = peaks(model, given)
    assert highest == {"x": 50.0, "y": 50.0}
    bound = percentile_bound(histograms(model, highest, given)["y"], 50.0, 99.99)
    assert bound == pytest.approx(1.0, abs=2 * 50 / 4096)


def test_the_least_error_bound_is_the_best_of_those_tried_by_hand() -> None:
    values = np.random.default_rng(0).standard_normal(200_000)
    model, given = passing(values)
    highest = peaks(model, given)
    bound = least_error_bound(histograms(model, highest, given)["y"], highest["y"], 127)

    def error(limit: float) -> float:
        step = limit / 127
        return float(np.square(np.clip(np.round(values / step), -127, 127) * step - values).mean())

    assert error(bound) < 1.02 * min(error(limit) for limit in np.linspace(2, highest["y"], 60))


def test_a_tensor_that_is_not_finite_is_named() -> None:
    model, given = passing(np.array([1.0, np.inf]))
    with pytest.raises(ExportError, match="'x' is not finite"):
        peaks(model, given)
