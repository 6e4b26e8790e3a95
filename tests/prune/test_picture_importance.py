"""Units are ranked by what the picture loses without them, and what the others can take over is not lost."""

from __future__ import annotations

import pytest
import torch
from test_prune import MODEL, residual
from torch import nn

from edgegen.errors import RecipeError
from edgegen.generator import Generator
from edgegen.graph import example_inputs, trace
from edgegen.prune import front, prune, reconstruct, remove_units
from edgegen.prune.allocate import Allocation
from edgegen.prune.cut import kept_channels
from edgegen.prune.groups import channel_groups
from edgegen.prune.sensitivity import picture_curves, picture_loss, picture_sensitivity
from edgegen.recipe import Importance, PruneConfig
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec

BY_PICTURE = PruneConfig(speedup=3, importance=Importance.PICTURE)


class Two(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x):
        return self.second(self.first(x))


def linear_pair(units: int = 4) -> Generator:
    """Two linear 1x1 convolutions: the picture is linear in every gate, so the scores are exact in expectation."""
    torch.manual_seed(0)
    image = TensorSpec("image", Kind.IMAGE, (2, 6, 6), Layout.CHW)
    picture = TensorSpec("picture", Kind.IMAGE, (3, 6, 6), Layout.CHW)
    pair = Two(nn.Conv2d(2, units, 1), nn.Conv2d(units, 3, 1))
    return Generator(trace(pair), ComponentSpec("generator", (image,), (picture,)), "test", {}, {})


def samples_of(generator: Generator, count: int = 8):
    return [example_inputs(generator.spec, seed=seed) for seed in range(count)]


def test_the_score_of_a_unit_is_the_error_that_its_varying_part_makes():
    generator = linear_pair()
    samples = samples_of(generator, 16)
    groups = channel_groups(generator.module, samples[0])
    scores = picture_sensitivity(generator.module, groups, samples, generator.spec.outputs[0], probes=64)["first"]
    x = torch.cat([s[0] for s in samples])
    features = generator.module.first(x)
    varying = features - features.mean((0, 2, 3), keepdim=True)
    weight = generator.module.second.weight.flatten(1)
    wanted = torch.stack([(weight[:, i, None, None] * varying[:, i, None]).square().mean() for i in range(4)])
    assert torch.allclose(scores, wanted, rtol=0.15)


def test_what_other_channels_can_take_over_costs_nothing():
    generator = linear_pair()  # 4 channels of 2 inputs: any 2 of them hold all
    samples = samples_of(generator, 32)
    groups = channel_groups(generator.module, samples[0])
    losses = picture_curves(generator, groups, samples)["first"].losses
    assert losses[2] < 0.01 * losses[4]
    assert losses[3] > 0.02 * losses[4]


def test_a_teacher_that_the_student_lacks_a_unit_against_makes_removals_that_help_free():
    generator = linear_pair()
    spoiled = generator.copy()
    with torch.no_grad():
        generator.module.second.weight[:, 1] = 0  # the student's second unit is wrong altogether
    samples = samples_of(generator, 32)
    groups = channel_groups(spoiled.module, samples[0])
    alone = {name: curve.order for name, curve in picture_curves(spoiled, groups, samples, teacher=generator).items()}
    assert alone["first"][0] == 1


def test_removing_units_that_are_refitted_gives_the_pictures_back():
    generator = linear_pair(8)
    samples = samples_of(generator, 8)
    groups = channel_groups(generator.module, samples[0])
    allocation = Allocation({"first": (0, 3, 4, 5, 7)}, 0, 0, True)
    kept = kept_channels(generator.module, groups, allocation)
    student = generator.copy()
    remove_units(student.module, groups, allocation, samples[0])
    spoiled = picture_loss(student, generator, samples)
    made, recovery = reconstruct(student, generator, samples, kept=kept, ridge=1e-6)
    assert picture_loss(made, generator, samples) < 1e-4 * spoiled
    assert recovery.layers and recovery.after < recovery.before


def test_a_refit_that_does_not_help_is_not_kept():
    generator = linear_pair()
    samples = samples_of(generator)
    made, recovery = reconstruct(generator, generator, samples, kept={})
    assert recovery.layers == {} and recovery.after == recovery.before
    assert all(torch.equal(a, b) for a, b in zip(made.module.parameters(), generator.module.parameters(), strict=True))


def test_pruning_by_picture_beats_pruning_by_norm_after_the_same_refit():
    generator = residual()
    samples = samples_of(generator, 6)
    losses = []
    for importance in (Importance.PICTURE, Importance.NORM):
        config = PruneConfig(speedup=3, importance=importance)
        student = prune(generator, config, model=MODEL, budget_s=None, channel_multiple=8, samples=samples)
        assert student.lineage[-1].facts["picture_loss"] <= student.lineage[-1].facts["picture_loss_before_refit"]
        losses.append(picture_loss(student, generator, samples_of(generator, 10)[6:]))
    assert losses[0] < losses[1]


@pytest.mark.parametrize("rounds", [1, 2])
def test_the_same_seed_cuts_the_same_student(rounds):
    generator = residual()
    config = PruneConfig(speedup=4, importance=Importance.PICTURE, rounds=rounds)
    first, second = (
        prune(generator, config, model=MODEL, budget_s=None, channel_multiple=8, samples=samples_of(generator, 4))
        for _ in range(2)
    )
    facts = first.lineage[-1].facts
    assert facts["goal_met"] and facts["kept"] == second.lineage[-1].facts["kept"]
    weights = second.module.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in first.module.state_dict().items())


def test_scoring_leaves_the_generator_trainable_and_unwatched():
    generator = residual()
    groups = channel_groups(generator.module, example_inputs(generator.spec))
    picture_curves(generator, groups, samples_of(generator, 2))
    assert all(p.requires_grad and p.grad is None for p in generator.module.parameters())
    assert not any(m._forward_pre_hooks for m in generator.module.modules())


def test_pruning_by_picture_without_inputs_says_what_to_give():
    with pytest.raises(RecipeError, match="no calibration inputs"):
        prune(residual(), BY_PICTURE, model=MODEL, budget_s=None, channel_multiple=8)


@pytest.mark.parametrize("importance", Importance)
def test_a_front_runs_from_the_whole_to_the_narrowest_and_each_point_lacks_what_the_one_before_lacks(importance):
    generator = residual()
    config = PruneConfig(importance=importance)
    points = front(generator, config, model=MODEL, inputs=samples_of(generator, 3), channel_multiple=8, points=6)
    assert 4 <= len(points) <= 6
    assert not any(points[0].allocation.removed.values()) and points[0].picture_loss == 0.0
    for wide, narrow in zip(points, points[1:], strict=False):
        assert narrow.seconds < wide.seconds and narrow.macs < wide.macs and narrow.params < wide.params
        assert narrow.picture_loss >= wide.picture_loss and narrow.label == "predicted"
        for root, units in wide.allocation.removed.items():
            assert set(units) <= set(narrow.allocation.removed[root])
