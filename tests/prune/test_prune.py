"""Pruning meets the estimate it is given, keeps tiles whole and leaves its input alone."""

import pytest
import torch
from torch import nn

from edgegen.generator import Generator, load_generator, save_generator
from edgegen.graph import count_macs, example_inputs, trace
from edgegen.latency import Roofline
from edgegen.prune import prune
from edgegen.recipe import Importance, PruneConfig, PruneGoal
from edgegen.spec import ComponentSpec, Kind, Layout, Precision, TensorSpec

MODEL = Roofline(1e9, 1e12, Precision.INT8, 8)


def by_norm(**settings) -> PruneConfig:
    return PruneConfig(importance=Importance.NORM, **settings)


def residual():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1), nn.InstanceNorm2d(64, affine=True), nn.ReLU())
            self.blocks = nn.ModuleList(
                nn.Sequential(nn.Conv2d(64, 64, 3, 1, 1), nn.InstanceNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3, 1, 1))
                for _ in range(2)
            )
            self.up = nn.Sequential(nn.Conv2d(64, 128, 3, 1, 1), nn.PixelShuffle(2), nn.ReLU())
            self.out = nn.Conv2d(32, 3, 3, 1, 1)

        def forward(self, x):
            x = self.stem(x)
            for block in self.blocks:
                x = x + block(x)
            return self.out(self.up(x))

    torch.manual_seed(0)
    image = TensorSpec("image", Kind.IMAGE, (3, 16, 16), Layout.CHW, low=0, high=1)
    picture = TensorSpec("picture", Kind.IMAGE, (3, 32, 32), Layout.CHW, low=0, high=1)
    return Generator(trace(Residual()), ComponentSpec("generator", (image,), (picture,)), "test", {}, {})


@pytest.mark.parametrize("speedup", [2.0, 4.0, 10.0])
def test_the_estimate_meets_the_goal_and_channels_stay_multiples(speedup):
    before = residual()
    after = prune(before, by_norm(speedup=speedup), model=MODEL, budget_s=None, channel_multiple=8)
    facts = after.lineage[-1].facts
    assert facts["goal_met"] and facts["estimate_ms"] <= facts["goal_ms"]
    assert count_macs(after.module, after.spec) < count_macs(before.module, before.spec) / (0.8 * speedup)
    widths = [m.out_channels for m in after.module.modules() if isinstance(m, nn.Conv2d) and m.out_channels != 3]
    assert all(width % 8 == 0 for width in widths), widths


def test_the_generator_is_left_alone_and_the_student_keeps_its_spec():
    before = residual()
    weights = {k: v.clone() for k, v in before.module.state_dict().items()}
    after = prune(before, by_norm(speedup=3), model=MODEL, budget_s=None, channel_multiple=8)
    assert all(torch.equal(v, weights[k]) for k, v in before.module.state_dict().items())
    assert after.spec == before.spec
    assert after.module(*example_inputs(after.spec)).shape == (1, 3, 32, 32)


def test_channels_that_nothing_reads_go_first_and_cost_nothing():
    before = residual()
    with torch.no_grad():
        for block in ("blocks.0.3", "blocks.1.3"):
            before.module.get_submodule(block).weight[:, 8:] = 0  # only 8 of the 64 inner channels matter
    facts = residual_facts(before)
    after = prune(before, by_norm(), model=MODEL, budget_s=facts * 0.8, channel_multiple=8)
    x = example_inputs(before.spec)
    assert (after.module(*x) - before.module(*x)).abs().max() < 1e-4


def residual_facts(generator):
    """The estimate of the generator when only its inner channels shrink to 8: what the budget of the test is made of."""
    from edgegen.latency import estimate
    from edgegen.prune.work import layer_works

    return estimate(MODEL, layer_works(generator.module, example_inputs(generator.spec)).values())


def test_a_goal_out_of_reach_gives_the_narrowest_student_and_says_so():
    after = prune(residual(), by_norm(min_channels=8), model=MODEL, budget_s=1e-9, channel_multiple=8)
    assert after.lineage[-1].facts["goal_met"] is False
    assert max(m.out_channels for m in after.module.modules() if isinstance(m, nn.Conv2d)) <= 32


def test_a_pruned_generator_is_stored_and_read_without_pickle(tmp_path):
    after = prune(residual(), by_norm(speedup=3), model=MODEL, budget_s=None, channel_multiple=8)
    save_generator(after, tmp_path)
    again = load_generator(tmp_path)
    x = example_inputs(after.spec)
    assert torch.equal(again.module(*x), after.module(*x)) and again.lineage == after.lineage


def test_a_goal_of_multiply_accumulates_is_met_whatever_the_latency_model_says():
    before = residual()
    slow_anywhere = Roofline(1e3, 1e3, Precision.INT8, 8)
    pruned = [prune(before, by_norm(speedup=4.0, goal=PruneGoal.MACS), model=m, budget_s=None, channel_multiple=8)
              for m in (MODEL, slow_anywhere)]  # fmt: skip
    macs = [count_macs(student.module, student.spec) for student in pruned]
    assert macs[0] == macs[1] <= count_macs(before.module, before.spec) / 4
    facts = pruned[1].lineage[-1].facts
    assert facts["goal_met"] and facts["estimate_ms"] < facts["estimate_before_ms"] and "goal_ms" not in facts


def test_a_student_that_takes_longer_than_its_estimate_is_cut_further():
    before = residual()
    taken = []

    def whole(student):
        taken.append(1.4 * count_macs(student.module, student.spec) / 1e9)
        return taken[-1]

    budget = count_macs(before.module, before.spec) / 1e9 / 3
    facts = prune(before, by_norm(), model=MODEL, budget_s=budget, channel_multiple=8, measure=whole).lineage[-1].facts
    assert taken[0] > budget and facts["goal_met"]
    assert 0.7 * budget < facts["measured_ms"] / 1e3 <= budget


def test_a_student_that_takes_less_than_its_estimate_keeps_more_channels():
    before = residual()
    budget = count_macs(before.module, before.spec) / 1e9 / 3
    alone, timed = (
        prune(before, by_norm(), model=MODEL, budget_s=budget, channel_multiple=8, measure=measure)
        for measure in (None, lambda student: 0.6 * count_macs(student.module, student.spec) / 1e9)
    )
    assert count_macs(timed.module, timed.spec) > count_macs(alone.module, alone.spec)
