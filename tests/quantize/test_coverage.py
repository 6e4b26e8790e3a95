"""Coverage: would one half of the calibration inputs have been enough for the other?"""

import numpy as np
import torch
from torch import fx, nn

from edgegen.generator import Generator
from edgegen.quantize.coverage import coverage
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec


def generator() -> Generator:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1)).eval()
    tensor = TensorSpec("image", Kind.IMAGE, (3, 16, 16), Layout.CHW, low=-1, high=1)
    return Generator(fx.symbolic_trace(net), ComponentSpec("net", (tensor,), (tensor,)), "test", {}, {})


def pictures(count: int) -> list[tuple[np.ndarray, ...]]:
    random = np.random.default_rng(0)
    return [(random.uniform(-1, 1, (1, 3, 16, 16)).astype(np.float32),) for _ in range(count)]


def test_inputs_of_one_kind_cover_each_other() -> None:
    found = coverage(generator(), pictures(16))
    assert found.is_enough and found.alone == ()
    assert [layer.layer for layer in found.layers] == ["0", "2"]
    assert found.to_json()["enough"] is True


def test_brighter_inputs_in_one_half_only_are_told_with_the_layer_that_sees_most_of_them() -> None:
    items = [(x * (3 if index % 2 else 1),) for index, (x,) in enumerate(pictures(16))]
    found = coverage(generator(), items)
    assert not found.is_enough
    assert found.worst.outside > 0.3 and found.worst.excess > 0.5
    assert f"of what {found.worst.layer} sees" in found.sentence and "more inputs" in found.sentence


def test_one_input_that_sets_the_ranges_alone_is_named() -> None:
    items = pictures(16)
    items[5] = (items[5][0] * 20,)
    assert coverage(generator(), items).alone == ("input 6 alone widens the ranges of 2 of 2 layers by more than half",)


def test_three_inputs_have_no_halves() -> None:
    assert coverage(generator(), pictures(3)) is None
