"""A nest's students are selections from shared weights."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from edgegen.generator import Generator, StageRecord, load_generator
from edgegen.graph import trace
from edgegen.nested import Nested, NestEntry, Width, find_nested, nest_key, save_nest, select
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec

IMAGE = TensorSpec("image", Kind.IMAGE, (1, 2, 2), Layout.CHW, low=0.0, high=1.0)
SPEC = ComponentSpec("generator", (IMAGE,), (dataclasses.replace(IMAGE, name="picture"),))


def conv(width: int, value: float) -> Generator:
    module = trace(nn.Sequential(nn.Conv2d(1, width, 1), nn.Conv2d(width, 1, 1)))
    for tensor in module.parameters():
        tensor.data.fill_(value)
    return Generator(module, SPEC, "conv", {}, {})


def nest() -> Nested:
    """Return a nest whose one width keeps channels 0 and 2 of three and has biases of its own, all 5."""
    full = conv(3, 1.0)
    full.module.get_parameter("0.weight").data.copy_(torch.tensor([2.0, 3.0, 4.0]).view(3, 1, 1, 1))
    places = {"0.weight": torch.tensor([0, 2]).view(2, 1, 1, 1).int(), "1.weight": torch.tensor([0, 2]).view(1, 2, 1, 1).int()}
    return Nested(full, (Width(conv(2, 5.0).module, places, 16, StageRecord("prune", {}, 0.0, {"macs": 16})),))


def test_selected_values_keep_the_shape_of_their_places_and_send_gradients_home():
    shared = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    chosen = select(shared, torch.tensor([[3], [0]]))
    assert chosen.tolist() == [[4.0], [1.0]]
    (chosen * torch.tensor([[10.0], [20.0]])).sum().backward()
    assert shared.grad is not None and shared.grad.tolist() == [[20.0, 0.0], [0.0, 10.0]]


def test_a_student_has_shared_weights_from_the_full_one_and_the_rest_from_its_width():
    student = nest().student(0)
    assert student.module.get_parameter("0.weight").flatten().tolist() == [2.0, 4.0]
    assert student.module.get_parameter("1.weight").flatten().tolist() == [1.0, 1.0]
    assert student.module.get_parameter("0.bias").tolist() == [5.0, 5.0]
    assert student.lineage[-1].facts["macs"] == 16 and student.family == "conv"
    # 2x + 5 and 4x + 5, added, and the last bias
    assert student.module(torch.ones(1, 1, 2, 2)).unique().tolist() == [2 + 5 + 4 + 5 + 5]


def test_a_student_is_independent_of_its_nest():
    nested = nest()
    student = nested.student(0)
    for tensor in student.module.parameters():
        tensor.data.zero_()
    assert nested.student(0).module.get_parameter("0.weight").flatten().tolist() == [2.0, 4.0]
    assert nested.student(0).module.get_parameter("0.bias").tolist() == [5.0, 5.0]


def test_a_stored_nest_gives_each_budget_its_student_and_says_which_has_none(tmp_path: Path):
    entries = [NestEntry("host", 0.003, 1.5, "measured", None), NestEntry("jetson", 0.001, 9.0, "predicted", None)]
    save_nest(tmp_path, "the key", entries, {0: nest().student(0)})
    found, none = find_nested(tmp_path, "host", 0.003), find_nested(tmp_path, "jetson", 0.001)
    assert found.folder is not None and none.folder is None and (none.narrowest_ms, none.label) == (9.0, "predicted")
    assert load_generator(found.folder).lineage[-1].stage == "prune"
    assert nest_key(tmp_path) == "the key"
    with pytest.raises(KeyError):
        find_nested(tmp_path, "host", 0.004)
