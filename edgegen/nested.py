"""Students of several widths that share one set of weights: what one training makes all of.

Source: Yu et al. 2019 (Slimmable Neural Networks) and Yu and Huang 2019 (Universally Slimmable Networks). A narrower student
is the widest one without some of its channels, so each of its tensors is a selection from the widest one's. What selects
well for all widths at once is small and private to each: biases, the scale of norms and their statistics.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgegen.generator import Generator, StageRecord

if TYPE_CHECKING:
    import torch
    from torch.fx import GraphModule


@dataclasses.dataclass(frozen=True)
class Width:
    """One student of a nest.

    `module` is the pruned graph. `places` holds, for each tensor that it shares, where its values lie in the flattened tensor of
    that name of the full student (int32, the shape of its own); every other tensor is its own, with the values in `module`.
    `record` is the lineage entry of the cut.
    """

    module: GraphModule
    places: Mapping[str, torch.Tensor]
    macs: int
    record: StageRecord


@dataclasses.dataclass(frozen=True)
class Nested:
    """Students from the widest to the narrowest over the weights of `full`, which has every channel that any of them has."""

    full: Generator
    widths: tuple[Width, ...]

    def student(self, index: int) -> Generator:
        """Return the student of `widths[index]` as a generator of its own: later changes to either leave the other alone."""
        width, shared = self.widths[index], self.full.module.state_dict()
        module = copy.deepcopy(width.module)
        tensors = module.state_dict()
        for name, places in width.places.items():
            tensors[name].copy_(select(shared[name], places))
        return dataclasses.replace(self.full, module=module).with_record(width.record)


def select(shared: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return the values of `shared` at the flat indices `places`, in the shape of `places`; gradients flow back to `shared`.

    Indices and not slices of sorted channels: they also serve concatenations and sub-pixel layers, whose channels do not stay
    together, and cost 1 to 2.5 ms a step with gradients (0.25 to 1.7 million weights, one x86 core).
    """
    return shared.reshape(-1).index_select(0, places.reshape(-1)).view(places.shape)
