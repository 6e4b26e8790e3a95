"""Choose the int8 form of an ONNX generator by what its pictures lose: how scales are set, and which layers stay in float."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from edgegen.errors import ExportError
from edgegen.export.onnx_graph import constants, makers
from edgegen.export.onnx_ranges import histograms, outputs, psnr_db
from edgegen.export.qdq import LEVELS, WEIGHTED, insert_qdq, quantizable, quantized_edges
from edgegen.ranges import (
    ENOUGH_DB,
    WORTH_A_RANGE_DB,
    Estimator,
    LearnedRange,
    Range,
    estimate_range,
    picture_driven,
    weight_digest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx

_PICTURE_DRIVEN = "picture-driven"
_JUDGES = 8
_MOST_TRIES = 24  # of single ranges: a network of 16 layers took 40 s of one core with 100, and gained 0.1 dB more
WORTH_DB = 1.0


@dataclasses.dataclass(frozen=True)
class Int8Choice:
    """The int8 model that was chosen, its PSNR in dB to the float model, and every form tried with its PSNR.

    `ranges` is the estimator that served best for all tensors, "learned", or "picture-driven" where changing single ones of it
    served better still; `kept_float` names the weighted layers that stay in float because
    the pictures gain 1 dB by it.
    """

    model: onnx.ModelProto
    ranges: str
    psnr_db: float
    quantized: tuple[str, ...]
    kept_float: tuple[str, ...]
    tried: Mapping[str, float]


def choose_int8(
    model: onnx.ModelProto,
    peaks: Mapping[str, float],
    samples: list[dict[str, np.ndarray]],
    learned: Sequence[LearnedRange] = (),
) -> Int8Choice:
    """Return the best int8 form of the float32 `model`, judged on up to eight of the calibration samples.

    `learned` are ranges from quantisation-aware training: one more way to set them. Raises ExportError when the generator has no
    layer that runs in int8.
    """
    nodes = quantizable(model)
    if not nodes:
        raise ExportError(f"'{model.graph.name}' has no convolution or matrix product that int8 could speed up", hint="use f16")
    judges = samples[:: -(-len(samples) // _JUDGES)]
    references = outputs(model, judges)
    tried: dict[str, float] = {}

    def judge(label: str, chosen: list[str], bounds: Mapping[str, float]) -> tuple[float, onnx.ModelProto]:
        candidate = insert_qdq(model, chosen, bounds)
        tried[label] = round(psnr_db(outputs(candidate, judges), references), 2)
        return tried[label], candidate

    options = _bounds(model, nodes, peaks, samples)
    if learned:
        options["learned"] = options[Estimator.MIN_MAX.value] | {
            name: max(-low, high) for name, (low, high) in learned_ranges(model, nodes, learned).items()
        }
    judged = {name: judge(name, nodes, bounds) for name, bounds in options.items()}
    ranges = max(judged, key=lambda name: judged[name][0])
    (best, made), bounds = judged[ranges], options[ranges]
    if best < ENOUGH_DB:
        found = _picture_driven(
            options, lambda tensors: judge(_PICTURE_DRIVEN, nodes, tensors)[0], [level for level, _ in judged.values()]
        )
        level, candidate = judge(_PICTURE_DRIVEN, nodes, found)
        if level > best:
            ranges, best, made, bounds = _PICTURE_DRIVEN, level, candidate, found
    kept: list[str] = []
    for label, group in _doubtful(model, nodes).items():
        fewer = [name for name in nodes if name not in {*kept, *group}]
        if best >= ENOUGH_DB or not fewer or set(group) <= set(kept):
            continue
        level, candidate = judge(f"{ranges}, {label} in float", fewer, bounds)
        if level > best + WORTH_DB:
            best, made = level, candidate
            kept.extend(name for name in group if name not in kept)
    return Int8Choice(made, ranges, best, tuple(name for name in nodes if name not in kept), tuple(kept), tried)


def _bounds(
    model: onnx.ModelProto, nodes: list[str], peaks: Mapping[str, float], samples: list[dict[str, np.ndarray]]
) -> dict[str, dict[str, float]]:
    """Return the ways to set the largest |x| of each tensor that becomes int8, by the name of the estimator."""
    _, owners = quantized_edges(model, nodes)
    highest = {name: peaks[name] for name in owners}
    seen = histograms(model, highest, samples)
    return {
        way.value: highest | {name: estimate_range(one, way, levels=LEVELS)[1] for name, one in seen.items()} for way in Estimator
    }


def learned_ranges(model: onnx.ModelProto, nodes: list[str], learned: Sequence[LearnedRange]) -> dict[str, Range]:
    """Return the learned ranges of the tensors that `nodes` read, found by the weights of the layers."""
    by_weight = {one.weight_digest: one for one in learned}
    values, found = constants(model), dict[str, Range]()
    for node in (node for node in model.graph.node if node.name in set(nodes)):
        one = by_weight.get(weight_digest(values[node.input[1]]))
        if one is not None:
            low, high = found.get(node.input[0], (0.0, 0.0))
            found[node.input[0]] = min(one.low, low), max(one.high, high)
    return found


def _picture_driven(
    options: Mapping[str, Mapping[str, float]], judge: Callable[[Mapping[str, float]], float], known: Sequence[float]
) -> dict[str, float]:
    """Return a bound per tensor, each from the option that harms the picture least."""
    chosen = picture_driven_ranges(
        [{name: (-bound, bound) for name, bound in bounds.items()} for bounds in options.values()],
        lambda ranges: judge({name: high for name, (_, high) in ranges.items()}),
        known,
        _MOST_TRIES,
    )
    return {name: high for name, (_, high) in chosen.items()}


def picture_driven_ranges(
    ways: Sequence[Mapping[str, Range]], judge: Callable[[Mapping[str, Range]], float], known: Sequence[float], most_tries: int
) -> dict[str, Range]:
    """Return a range per tensor, each from the way that harms the picture least; at most `most_tries` single ones are tried.

    `known` is what `judge` says of the ways.
    """
    return picture_driven(ways, judge, most_tries=len(ways) + most_tries, worth=WORTH_A_RANGE_DB, known=known)[0]


def _doubtful(model: onnx.ModelProto, nodes: list[str]) -> dict[str, list[str]]:
    """Return the groups of layers that int8 hurts most in generators: heads, transposed convolutions, stems."""
    kinds = {node.name: node.op_type for node in model.graph.node}
    groups = {
        "the last layer": [name for name in heads(model) if name in nodes],
        "ConvTranspose": [name for name in nodes if kinds[name] == "ConvTranspose"],
        "the first layer": nodes[:1],
    }
    return {label: group for label, group in groups.items() if group}


def heads(model: onnx.ModelProto) -> list[str]:
    """Return the weighted nodes whose result reaches an output through no other weighted node."""
    made_by = makers(model)
    found, waiting, seen = [], [value.name for value in model.graph.output], set()
    while waiting:
        node = made_by.get(waiting.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.op_type in WEIGHTED:
            found.append(node.name)
        else:
            waiting.extend(node.input)
    return found
