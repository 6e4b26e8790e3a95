"""The value that travels through the stages: a generator with its spec, where it came from and what was done to it."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgegen.errors import CheckpointError
from edgegen.spec import ComponentSpec

if TYPE_CHECKING:
    from torch.fx import GraphModule


@dataclasses.dataclass(frozen=True)
class StageRecord:
    """What one stage did: its name, the settings it ran with, how long it took and facts worth reporting."""

    stage: str
    config: Mapping[str, Any]
    seconds: float
    facts: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the plain JSON object; `StageRecord(**value)` reads it back."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Generator:
    """A trained generator between two stages.

    `module` is a `torch.fx.GraphModule` in eval mode, float32 on the CPU, whose leaves are all in `edgegen.graph.LAYERS`;
    it takes the tensors of `spec.inputs` in order, with a batch axis in front, and returns the one of `spec.outputs`.
    `source` names the checkpoint (file name, SHA-256, trusted or not).
    """

    module: GraphModule
    spec: ComponentSpec
    family: str
    hyperparameters: Mapping[str, Any]
    source: Mapping[str, Any]
    lineage: tuple[StageRecord, ...] = ()

    def copy(self) -> Generator:
        """Return an independent copy: changing its module leaves this one alone."""
        return dataclasses.replace(self, module=copy.deepcopy(self.module))

    def with_record(self, record: StageRecord) -> Generator:
        """Return the same generator with `record` added to its lineage."""
        return dataclasses.replace(self, lineage=(*self.lineage, record))


def save_generator(generator: Generator, folder: Path) -> None:
    """Write generator.json (graph, spec, lineage) and weights.safetensors into the existing `folder`."""
    from safetensors.torch import save_file

    from edgegen.graph import graph_to_json

    tensors = {k: v.detach().contiguous().clone() for k, v in generator.module.state_dict().items()}
    save_file(tensors, str(folder / "weights.safetensors"))
    document = {
        "format": "edgegen.generator/1",
        "family": generator.family,
        "hyperparameters": dict(generator.hyperparameters),
        "source": dict(generator.source),
        "spec": generator.spec.to_json(),
        "lineage": [record.to_json() for record in generator.lineage],
        "graph": graph_to_json(generator.module),
    }
    (folder / "generator.json").write_text(json.dumps(document, indent=1))


def load_generator(folder: Path) -> Generator:
    """Read what `save_generator` wrote. No code from the folder runs: layers come from a fixed vocabulary.

    Raises CheckpointError for a folder that holds anything else.
    """
    from safetensors import SafetensorError

    wrong = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError, SyntaxError, OSError)
    try:
        return _read_generator(folder)
    except (*wrong, AssertionError, SafetensorError) as problem:
        raise CheckpointError(
            f"{folder} holds no generator that edgegen wrote ({type(problem).__name__}: {problem})",
            hint="remove the folder and run again",
        ) from problem


def _read_generator(folder: Path) -> Generator:
    from safetensors.torch import load_file

    from edgegen.graph import graph_from_json

    document = json.loads((folder / "generator.json").read_text())
    module = graph_from_json(document["graph"])
    module.load_state_dict(load_file(str(folder / "weights.safetensors")))
    return Generator(
        module=module.eval(),
        spec=ComponentSpec.from_json(document["spec"]),
        family=document["family"],
        hyperparameters=document["hyperparameters"],
        source=document["source"],
        lineage=tuple(StageRecord(**record) for record in document["lineage"]),
    )
