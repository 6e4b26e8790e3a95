"""A nest is cut from one generator: each width is the pruned generator, its values found in the widest one's."""

import dataclasses

import pytest
import torch
from torch import nn

from edgegen.errors import RecipeError
from edgegen.generator import Generator
from edgegen.graph import count_macs, example_inputs, trace
from edgegen.latency import Roofline
from edgegen.layers import Reshape
from edgegen.nested import Nested
from edgegen.prune.allocate import Allocation
from edgegen.prune.cut import remove_units
from edgegen.prune.front import FrontPoint, front
from edgegen.prune.groups import channel_groups
from edgegen.prune.nested import build_nested
from edgegen.prune.sensitivity import picture_loss
from edgegen.recipe import Importance, PruneConfig
from edgegen.spec import ComponentSpec, Kind, Layout, Precision, TensorSpec


class Joined(nn.Module):
    """Everything that makes channels hard to follow: a dense stem, statistics, a skip that is joined, sub-pixels, a PReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(6, 16 * 4 * 4)
        self.square = Reshape((16, 4, 4))
        self.norm = nn.BatchNorm2d(16)
        self.inner = nn.Conv2d(16, 16, 3, padding=1)
        self.act = nn.PReLU(16)
        self.join = nn.Conv2d(32, 32, 1)
        self.grow = nn.PixelShuffle(2)
        self.up = nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1)
        self.scale = nn.InstanceNorm2d(8, affine=True)
        self.head = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Map (N, 6) to (N, 3, 16, 16)."""
        x = self.norm(self.square(self.dense(latent)))
        x = torch.cat([x, self.act(self.inner(x))], 1)
        return torch.tanh(self.head(self.scale(self.up(self.grow(self.join(x))))))


def joined() -> Generator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = trace(Joined())
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand(tensor.shape))
    latent = TensorSpec("latent", Kind.LATENT, (6,), Layout.D)
    picture = TensorSpec("picture", Kind.IMAGE, (3, 16, 16), Layout.CHW, low=-1, high=1)
    return Generator(module, ComponentSpec("generator", (latent,), (picture,)), "joined", {}, {})


def points(generator: Generator) -> list[FrontPoint]:
    config, inputs = PruneConfig(min_channels=2, importance=Importance.NORM), [example_inputs(generator.spec, seed=1)]
    return front(generator, config, model=Roofline(1e9, 1e15, Precision.F32, 1), inputs=inputs, channel_multiple=2, points=5)


def cut(generator: Generator, allocation: Allocation) -> Generator:
    student, inputs = generator.copy(), example_inputs(generator.spec)
    remove_units(student.module, channel_groups(student.module, inputs), allocation, inputs)
    return student


def built(private: bool = True) -> tuple[Generator, list[Allocation], Nested]:
    """Return the generator, three allocations of its front, and their nest; the widest lacks channels already."""
    generator = joined()
    chosen = points(generator)[1::2] + points(generator)[-1:]
    return generator, [point.allocation for point in chosen], build_nested(generator, chosen, private=private)


@pytest.mark.parametrize("private", [True, False])
def test_each_width_is_bit_for_bit_the_generator_cut_alone(private):
    generator, cuts, nested = built(private)
    inputs = example_inputs(generator.spec, batch=2)
    for index, allocation in enumerate(cuts):
        alone, student = cut(generator, allocation), nested.student(index)
        assert alone.module.state_dict().keys() == student.module.state_dict().keys()
        for name, tensor in alone.module.state_dict().items():
            assert torch.equal(student.module.state_dict()[name], tensor), name
        assert torch.equal(student.module(*inputs), alone.module(*inputs))
        assert nested.widths[index].macs == count_macs(alone.module, alone.spec)


def test_a_value_that_changes_in_the_widest_changes_where_narrower_ones_share_it():
    generator, cuts, nested = built()
    weight = nested.full.module.get_parameter("inner.weight").data
    marks = torch.arange(float(weight.numel())).view(weight.shape)
    weight.copy_(marks)
    marked = generator.copy()
    marked.module.get_parameter("inner.weight").data.zero_()
    for index, allocation in enumerate(cuts):
        kept = nested.student(index).module.get_parameter("inner.weight")
        assert kept.shape == cut(generator, allocation).module.get_parameter("inner.weight").shape
        assert set(kept.flatten().tolist()) <= set(marks.flatten().tolist()) and len(kept.unique()) == kept.numel()
    assert torch.equal(nested.student(0).module.get_parameter("inner.weight"), marks)


def test_biases_and_norm_scales_are_private_only_when_asked_for_and_statistics_always():
    names = {True: {"inner.weight", "head.weight"}, False: {"inner.weight", "inner.bias", "scale.weight", "act.weight"}}
    for private, shared in names.items():
        places = built(private)[2].widths[-1].places
        assert shared <= places.keys() and not any("running" in name or "tracked" in name for name in places)
        assert ("inner.bias" in places) is not private


def test_the_generator_is_left_alone_and_the_record_says_what_was_cut():
    generator, cuts, nested = built()
    fresh = joined()
    assert all(torch.equal(tensor, fresh.module.state_dict()[name]) for name, tensor in generator.module.state_dict().items())
    record = nested.student(2).lineage[-1]
    assert record.stage == "prune" and record.facts["label"] == "predicted" and record.facts["macs"] == nested.widths[2].macs
    assert record.facts["kept"]["inner"] == cut(generator, cuts[2]).module.get_parameter("inner.weight").shape[0]


def test_points_that_are_not_nested_are_refused_by_name():
    generator = joined()
    path = [point.allocation for point in points(generator)]
    with pytest.raises(RecipeError, match="student 2 of the nest has channels of .* that the first lacks"):
        build_nested(generator, [path[-1], path[0]])
    other = dataclasses.replace(path[-1], removed=dict.fromkeys(path[-1].removed, ()))
    with pytest.raises(RecipeError, match="student 3 of the nest"):
        build_nested(generator, [path[1], path[-1], other])
    with pytest.raises(RecipeError, match="no students"):
        build_nested(generator, [])


def test_with_samples_the_widest_starts_refitted_and_the_others_share_its_weights():
    generator, cuts, plain = built()
    samples = [example_inputs(generator.spec, seed=seed) for seed in range(16)]
    fresh = [example_inputs(generator.spec, seed=seed) for seed in range(100, 108)]
    nested = build_nested(generator, cuts, samples=samples)
    assert picture_loss(nested.student(0), generator, fresh) < picture_loss(plain.student(0), generator, fresh)
    full, narrow = (g.module.get_parameter("head.weight").flatten().tolist() for g in (nested.full, nested.student(2)))
    assert set(narrow) < set(full) and full != plain.full.module.get_parameter("head.weight").flatten().tolist()
