"""Cuts for several targets at once: each meets its own latency, and one set of weights can hold all."""

import torch
from torch import nn

from edgegen.generator import Generator
from edgegen.graph import example_inputs, trace
from edgegen.latency import LatencyModel, Roofline
from edgegen.prune import Demand, build_nested, meet_demands, widest_of
from edgegen.prune.allocate import Allocation
from edgegen.recipe import PruneConfig
from edgegen.spec import ComponentSpec, Kind, Layout, Precision, TensorSpec

CONFIG = PruneConfig(min_channels=2)
COMPUTE, MEMORY = Roofline(1e9, 1e15, Precision.F32, 1), Roofline(1e15, 1e8, Precision.F32, 1)


def painter() -> Generator:
    """Two resolutions, so that what is cheap in arithmetic is not what is cheap in memory."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = trace(
            nn.Sequential(
                nn.Conv2d(3, 12, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(12, 24, 3, 2, 1),
                nn.ReLU(),
                nn.ConvTranspose2d(24, 12, 4, 2, 1),
                nn.ReLU(),
                nn.Conv2d(12, 3, 3, padding=1),
                nn.Sigmoid(),
            )  # fmt: skip
        )
    image = TensorSpec("image", Kind.IMAGE, (3, 16, 16), Layout.CHW, low=0.0, high=1.0)
    return Generator(module, ComponentSpec("generator", (image,), (image,)), "painter", {}, {})


def cuts(*demands: tuple[LatencyModel, float, int]) -> list[Allocation]:
    generator = painter()
    samples = [example_inputs(generator.spec, seed=seed) for seed in range(8)]
    asked = [Demand(model, share * whole_s(model), multiple) for model, share, multiple in demands]
    return [a.allocation for a in meet_demands(generator, CONFIG, asked, samples=samples)]


def whole_s(model: LatencyModel) -> float:
    generator = painter()
    samples = [example_inputs(generator.spec, seed=0)]
    (answer,) = meet_demands(generator, CONFIG, [Demand(model, 1.0, 1)], samples=samples)
    return answer.allocation.before_s


def test_every_demand_is_met_with_the_tiles_of_its_own_target() -> None:
    fine, coarse = cuts((COMPUTE, 0.5, 1), (COMPUTE, 0.5, 4))
    assert fine.met and coarse.met
    counts = {root: len(units) for root, units in coarse.removed.items()}
    assert any(counts.values()) and all(count % 4 == 0 for count in counts.values())
    assert len({len(units) % 4 for units in fine.removed.values()} - {0}) > 0


def test_targets_cut_elsewhere_and_still_one_set_of_weights_holds_all_students() -> None:
    by_work, by_memory = cuts((COMPUTE, 0.6, 1), (MEMORY, 0.7, 1))
    roots = by_work.removed.keys()
    assert any(len(by_work.removed[r]) < len(by_memory.removed[r]) for r in roots)
    assert any(len(by_work.removed[r]) > len(by_memory.removed[r]) for r in roots)
    widest = widest_of([by_work, by_memory])
    nested = build_nested(painter(), [widest, by_work, by_memory])
    inputs = example_inputs(nested.full.spec)
    assert all(nested.student(i).module(*inputs).shape == (1, 3, 16, 16) for i in range(3))
    assert nested.widths[0].macs >= max(width.macs for width in nested.widths[1:])


def test_the_widest_of_cuts_along_one_path_is_the_one_that_removes_least() -> None:
    some, more = cuts((COMPUTE, 0.6, 1), (COMPUTE, 0.3, 1))
    assert widest_of([more, some]).removed == some.removed
