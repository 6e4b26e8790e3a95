"""Moves compete with channels: what costs little of the picture per second is taken, what costs much is not."""

import dataclasses

import torch
from torch import nn

from edgegen.generator import Generator
from edgegen.graph import example_inputs, trace
from edgegen.latency import Roofline
from edgegen.prune import prune
from edgegen.prune.moves.search import estimated_s
from edgegen.prune.moves.take import take_moves
from edgegen.recipe import PruneConfig
from edgegen.spec import ComponentSpec, Kind, Layout, Precision, TensorSpec

MODEL = Roofline(1e9, 1e9, Precision.INT8, 4)


class _Net(nn.Module):
    """A stem with a 9x9 kernel of which only the middle 3x3 does anything, and a plain head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.middle = nn.Conv2d(3, 16, 9, padding=4), nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Conv2d(16, 3, 3, padding=1)
        with torch.no_grad():
            kept = self.stem.weight[:, :, 3:6, 3:6].clone()
            self.stem.weight.zero_()
            self.stem.weight[:, :, 3:6, 3:6] = kept

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map (N, 3, 32, 32) to the same shape."""
        return torch.tanh(self.head(torch.relu(self.middle(torch.relu(self.stem(image))))))


def _generator() -> Generator:
    image = TensorSpec("image", Kind.IMAGE, (3, 32, 32), Layout.CHW, low=-1.0, high=1.0)
    spec = ComponentSpec("generator", (image,), (dataclasses.replace(image, name="picture"),))
    return Generator(trace(_Net()), spec, "test", {}, {})


def _samples(generator: Generator) -> list[tuple[torch.Tensor, ...]]:
    return [example_inputs(generator.spec, seed=seed) for seed in range(8)]


def test_a_kernel_whose_rim_does_nothing_is_made_smaller():
    generator = _generator()
    made, taken = take_moves(generator, model=MODEL, samples=_samples(generator), price=1e-3)
    assert any("smaller_kernel" in move.label for move in taken)
    assert estimated_s(made, MODEL) < estimated_s(generator, MODEL)


def test_at_no_price_nothing_that_changes_pictures_is_taken():
    generator = _generator()
    _, taken = take_moves(generator, model=MODEL, samples=_samples(generator), price=0.0)
    assert all(move.loss_added <= 0.0 for move in taken)


def test_what_is_taken_saves_time_and_stays_below_the_price():
    generator = _generator()
    _, taken = take_moves(generator, model=MODEL, samples=_samples(generator), price=1.0)
    assert taken
    assert all(move.saved_s > 0 and move.loss_added <= 0.5 * move.saved_s for move in taken)


def test_pruning_records_its_moves_and_leaves_them_out_when_told():
    generator = _generator()
    goal = estimated_s(generator, MODEL) / 3
    records = []
    for moves in (True, False):
        config = PruneConfig(min_channels=4, moves=moves)
        student = prune(generator, config, model=MODEL, budget_s=goal, channel_multiple=4, samples=_samples(generator))
        records.append(student.lineage[-1].facts)
    assert [bool(facts["moves"]) for facts in records] == [True, False]
    assert records[0]["picture_loss"] < records[1]["picture_loss"]
