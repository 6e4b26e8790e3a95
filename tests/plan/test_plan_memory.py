"""Peak memory by liveness: counted by hand on graphs small enough to."""

import dataclasses

import pytest
import torch
from torch import nn

from edgegen.generator import Generator
from edgegen.graph import node_shapes, trace
from edgegen.plan.memory import device_memory_bytes, live_values, peak_live_values
from edgegen.spec import ComponentSpec, Kind, Layout, Precision, TensorSpec

PLANE = 8 * 8


def picture(channels: int) -> tuple[torch.Tensor, ...]:
    return (torch.zeros(1, channels, 8, 8),)


class Chain(nn.Module):
    """1 -> 4 -> 2 channels, with an activation that back ends compute in place."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.act, self.narrow = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.narrow(self.act(self.wide(x)))


class Skip(nn.Module):
    """A residual block: its input lives until the addition, which writes over one of its two terms."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(self.first(x))


class Joined(nn.Module):
    """Two branches, put side by side into memory of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.left(x), self.right(x)], 1)


@dataclasses.dataclass(frozen=True)
class Case:
    """A module, how many channels it takes, and what is live at its worst node, in planes of 8x8 values."""

    name: str
    module: nn.Module
    channels: int
    planes: int


CASES = (
    Case("a chain holds the input and the output of one layer, and an activation works in place", Chain(), 1, 4 + 2),
    Case("a skipped input is held beside both sides of a layer in the block", Skip(), 4, 4 + 4 + 4),
    Case("joined branches are held together with what they join to", Joined(), 1, 2 + 3 + 5),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_peak_is_what_is_live_at_the_worst_node(case: Case) -> None:
    assert peak_live_values(trace(case.module), picture(case.channels)) == case.planes * PLANE


def test_every_node_holds_at_least_what_it_reads_and_writes() -> None:
    module = trace(Chain())
    shapes, live = node_shapes(module, picture(1)), live_values(module, picture(1))
    for node in module.graph.nodes:
        if node.name == "narrow":
            assert live[node.name] == sum(torch.Size(shapes[n]).numel() for n in ("act", "narrow"))
    assert live["act"] == live["wide"] - PLANE  # the input is gone, the activation overwrote its own


def test_a_view_takes_no_memory_and_keeps_alive_what_it_looks_at() -> None:
    class Viewed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(1, -1).view(1, 2, 8, 8)

    assert peak_live_values(trace(Viewed()), picture(2)) == 2 * PLANE


def test_memory_is_weights_and_live_activations_in_the_bytes_of_the_precision() -> None:
    spec = ComponentSpec(
        "generator",
        (TensorSpec("x", Kind.IMAGE, (1, 8, 8), Layout.CHW, low=0.0, high=1.0),),
        (TensorSpec("y", Kind.IMAGE, (2, 8, 8), Layout.CHW, low=0.0, high=1.0),),
    )
    generator = Generator(trace(Chain()), spec, "none", {}, {})
    weights, live = (1 * 4 * 9 + 4) + (4 * 2 * 9 + 2), 6 * PLANE
    assert device_memory_bytes(generator, Precision.F32) == 4 * (weights + live)
    assert device_memory_bytes(generator, Precision.INT8) == weights + live
    assert device_memory_bytes(generator, Precision.INT8_DYNAMIC) == weights + 4 * live
