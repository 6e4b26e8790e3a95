"""The search ranks moves by pictures lost per second saved and takes those that beat removing channels at the same latency."""

import pytest
import torch
from torch import nn

from edgegen.generator import Generator
from edgegen.graph import count_macs, layer_of, trace
from edgegen.latency import Roofline
from edgegen.prune.moves import MOVES
from edgegen.prune.moves.search import choose, estimated_s, propose
from edgegen.prune.sensitivity import picture_loss
from edgegen.spec import ComponentSpec, Kind, Layout, Precision, TensorSpec

MODEL = Roofline(1e9, 1e12, Precision.F32, 1)
IMAGE = TensorSpec("image", Kind.IMAGE, (3, 16, 16), Layout.CHW, low=0.0, high=1.0)


def separable_teacher() -> Generator:
    """The two middle convolutions have kernels of rank one: splitting them costs nothing, removing channels does."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 24, 3, 1, 1), nn.ReLU(), nn.Conv2d(24, 24, 3, 1, 1), nn.ReLU(), nn.Conv2d(24, 24, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(24, 3, 3, 1, 1), nn.Sigmoid(),
    )  # fmt: skip
    with torch.no_grad():
        for layer in (net[2], net[4]):
            layer.weight.copy_(torch.randn(24, 24, 1, 1) * torch.randn(1, 24, 3, 3) / 12)
    return Generator(trace(net), ComponentSpec("generator", (IMAGE,), (IMAGE,)), "test", {}, {})


def samples(count: int = 8) -> list[tuple[torch.Tensor, ...]]:
    drawn = torch.Generator().manual_seed(0)
    return [(torch.rand(1, 3, 16, 16, generator=drawn),) for _ in range(count)]


def narrow(generator: Generator, seconds: float) -> Generator:
    """Remove the last channels of all hidden layers, two by two, until the estimate is met: channel pruning at its plainest."""
    student = generator
    for kept in range(24, 1, -2):
        student = _cut(generator, kept)
        if estimated_s(student, MODEL) <= seconds:
            break
    return student


def _cut(generator: Generator, kept: int) -> Generator:
    student, left = generator.copy(), 3
    for node in student.module.graph.nodes:
        layer = layer_of(student.module, node)
        if isinstance(layer, nn.Conv2d):
            outputs = left if layer.groups > 1 else min(kept, layer.out_channels)
            new = nn.Conv2d(left, outputs, layer.kernel_size, 1, layer.padding, groups=left if layer.groups > 1 else 1)
            new.load_state_dict(
                {
                    "weight": layer.weight[:outputs, : 1 if layer.groups > 1 else left],
                    "bias": torch.zeros(outputs) if layer.bias is None else layer.bias[:outputs],
                }
            )
            student.module.set_submodule(str(node.target), new)
            left = outputs
    return student


def test_proposals_are_ranked_by_loss_per_second_and_save_what_they_say():
    teacher = separable_teacher()
    found = propose(teacher, model=MODEL, samples=samples(), limit=50)
    rates = [p.loss_added / p.saved_s for p in found]
    assert rates == sorted(rates) and len(found) > 4
    assert found[0].site.move == "separable"  # what costs nothing comes first
    for proposal in found:
        assert proposal.saved_s == pytest.approx(estimated_s(teacher, MODEL) - estimated_s(proposal.student, MODEL))
        assert proposal.saved_macs == count_macs(teacher.module, teacher.spec) - count_macs(proposal.student.module, teacher.spec)
        assert proposal.loss_added == pytest.approx(picture_loss(proposal.student, teacher, samples()[3::4]), rel=1e-4)
    assert [p.site for p in propose(teacher, model=MODEL, samples=samples(), limit=3)] == [p.site for p in found[:3]]


def test_free_moves_are_taken_before_channels_and_the_loss_is_lower_at_the_same_latency():
    teacher = separable_teacher()
    budget = 0.6 * estimated_s(teacher, MODEL)
    made = choose(teacher, model=MODEL, samples=samples(), budget_s=budget, narrow=narrow, limit=6)
    assert {site.move for site in made.sites} == {"separable"}
    assert made.trials[0].site is None and made.loss < 0.1 * made.trials[0].loss
    assert estimated_s(made.student, MODEL) <= budget
    assert picture_loss(made.student, teacher, samples()[3::4]) == pytest.approx(made.loss, rel=1e-4)
    again = choose(teacher, model=MODEL, samples=samples(), budget_s=budget, narrow=narrow, limit=6)
    assert [(t.site, t.loss, t.taken) for t in again.trials] == [(t.site, t.loss, t.taken) for t in made.trials]


def test_what_training_says_decides_when_there_is_a_polish():
    teacher = separable_teacher()
    seen = []

    def polish(student: Generator) -> float:
        """Training recovers everything but split convolutions."""
        seen.append(student)
        split = any(isinstance(layer, nn.Conv2d) and layer.groups > 1 for layer in student.module.modules())
        return 2.0 if split else 1.0

    budget = 0.6 * estimated_s(teacher, MODEL)
    made = choose(teacher, model=MODEL, samples=samples(), budget_s=budget, narrow=narrow, polish=polish, limit=6)
    assert made.sites == () and made.loss == 1.0 and made.uncut is teacher
    assert len(seen) == len(made.trials) > 3


def test_a_move_that_is_switched_off_is_not_tried():
    rest = [move for move in MOVES if move.name != "separable"]
    found = propose(separable_teacher(), model=MODEL, samples=samples(4), limit=50, moves=rest)
    assert found and all(proposal.site.move != "separable" for proposal in found)


def test_a_move_that_reaches_the_budget_wins_over_channels_that_cannot():
    teacher = separable_teacher()
    budget = 0.5 * estimated_s(teacher, MODEL)
    made = choose(teacher, model=MODEL, samples=samples(), budget_s=budget, narrow=lambda g, _: g, limit=12)
    assert made.trials[0].seconds > budget  # without cuts, only moves can reach it
    assert estimated_s(made.student, MODEL) <= 1.03 * budget and made.sites
