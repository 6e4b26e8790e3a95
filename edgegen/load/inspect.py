"""What `edgegen inspect` tells about a generator, as plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from edgegen.generator import Generator
from edgegen.spec import TensorSpec


@dataclasses.dataclass(frozen=True)
class LayerKind:
    """All layers of one kind: how many, their parameters and multiply-accumulates at batch 1."""

    kind: str
    count: int
    params: int
    macs: int


@dataclasses.dataclass(frozen=True)
class Inspection:
    """A generator described: `layers` by falling cost, `assumed` are the facts that tensors cannot tell."""

    family: str
    hyperparameters: Mapping[str, Any]
    source: Mapping[str, Any]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    params: int
    macs: int
    layers: tuple[LayerKind, ...]
    assumed: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the plain JSON object."""
        return {
            "family": self.family,
            "hyperparameters": dict(self.hyperparameters),
            "source": {key: value for key, value in self.source.items() if key != "assumed"},
            "inputs": [tensor.to_json() for tensor in self.inputs],
            "outputs": [tensor.to_json() for tensor in self.outputs],
            "params": self.params,
            "macs": self.macs,
            "layers": [dataclasses.asdict(layer) for layer in self.layers],
            "assumed": list(self.assumed),
        }


def inspect_generator(generator: Generator) -> Inspection:
    """Describe `generator`; runs it once on a drawn input to see the shapes."""
    from edgegen.graph import count_params, example_inputs, layer_costs

    costs = layer_costs(generator.module, example_inputs(generator.spec))
    kinds = {cost.kind for cost in costs}
    layers = [
        LayerKind(kind, len(own), sum(cost.params for cost in own), sum(cost.macs for cost in own))
        for kind in kinds
        if (own := [cost for cost in costs if cost.kind == kind])
    ]
    return Inspection(
        family=generator.family,
        hyperparameters=generator.hyperparameters,
        source=generator.source,
        inputs=generator.spec.inputs,
        outputs=generator.spec.outputs,
        params=count_params(generator.module),
        macs=sum(cost.macs for cost in costs),
        layers=tuple(sorted(layers, key=lambda layer: (-layer.macs, -layer.params, layer.kind))),
        assumed=tuple(generator.source.get("assumed", ())),
    )


def value_range(tensor: TensorSpec) -> str:
    """Return the values of a tensor in words: "0..255", "unit normal"."""
    return "unit normal" if tensor.low is None or tensor.high is None else f"{tensor.low:g}..{tensor.high:g}"
