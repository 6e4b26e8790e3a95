"""What a target's back end will do with each layer, told before any long stage runs."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

from edgegen.errors import ExportError
from edgegen.spec import Backend

if TYPE_CHECKING:
    from edgegen.generator import Generator
    from edgegen.target import TargetProfile


class Action(str, enum.Enum):
    """What happens to a layer on its way to the device."""

    NATIVE = "native"
    REWRITTEN = "rewritten"
    FLOAT = "float island"
    REFUSED = "refused"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One layer that does not simply run: the node, its kind, what edgegen does and why."""

    node: str
    kind: str
    action: Action
    reason: str


# Layer kind -> (action, reason). Kinds that are not listed run natively in every precision of the back end.
_RULES: dict[Backend, dict[str, tuple[Action, str]]] = {
    Backend.OPENVINO: {
        "InstanceNorm2d": (Action.FLOAT, "MVN in int8 costs 11 dB and saves no time"),
    },
    Backend.LITERT: {
        "ConvTranspose2d": (Action.REWRITTEN, "sizes that the converter refuses become VALID + slice"),
        "ReflectionPad2d": (Action.REWRITTEN, "MIRROR_PAD is never delegated: slices and concatenation"),
        "ReplicationPad2d": (Action.REWRITTEN, "not delegated: slices and concatenation"),
        "InstanceNorm2d": (Action.REWRITTEN, "mean and variance on the 4-D tensor; statistics stay in float"),
        "PixelShuffle": (Action.REWRITTEN, "channels reordered so that one transpose is left"),
        "LeakyReLU": (Action.FLOAT, "the quantiser has no int8 LEAKY_RELU"),
        "AvgPool2d": (Action.FLOAT, "int8 AVERAGE_POOL_2D is not delegated"),
        "GELU": (Action.FLOAT, "int8 GELU is not delegated"),
        "AdaptiveAvgPool2d": (Action.REFUSED, "the converter has no static form of it"),
    },
    Backend.TENSORRT: {
        "ConvTranspose2d": (Action.REWRITTEN, "no per-channel int8 for it: convolution + depth-to-space, weight-exact"),
        "InstanceNorm2d": (Action.FLOAT, "runs in f32/f16 only; ranges are checked against f16 overflow"),
        "Tanh": (Action.FLOAT, "heads stay in f16"),
        "Sigmoid": (Action.FLOAT, "heads stay in f16"),
        "Upsample": (Action.FLOAT, "int8 Resize needs reformats around it"),
    },
    Backend.ONNXRUNTIME: {},
}


def preflight(generator: Generator, target: TargetProfile) -> list[Finding]:
    """Return what the best back end of `target` does with every layer that does not simply run there, in graph order."""
    from edgegen.graph import layer_of

    rules = _RULES[target.backend]
    found = []
    for node in generator.module.graph.nodes:
        kind = type(layer_of(generator.module, node)).__name__
        if kind in rules:
            found.append(Finding(node.name, kind, *rules[kind]))
    return found


def require_exportable(generator: Generator, target: TargetProfile) -> None:
    """Raise ExportError naming the first layer that the target's back end refuses."""
    for finding in preflight(generator, target):
        if finding.action is Action.REFUSED:
            raise ExportError(
                f"node '{finding.node}' ({finding.kind}) cannot run on {target.id}: {finding.reason}",
                hint="`edgegen inspect CKPT` shows which targets take it",
            )
