"""Hand ranges to ai-edge-quantizer: those that training learned go in place of the extremes that its calibration saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgegen.export.litert_graph import LAYERS
from edgegen.ranges import LearnedRange, weight_digest

_WEIGHTS = {"TRANSPOSE_CONV": (1, 2)}  # (its weight, its activation) among the inputs; the others: (1, 0)


def with_learned(ranges: Mapping[str, Any], content: bytes, learned: Sequence[LearnedRange]) -> dict[str, Any]:
    """Return `ranges` ({tensor: {"min", "max"}}) of the float .tflite `content` with the learned ones put in.

    A layer is found by its weights, which the converter moves about but does not change. Where two layers read one tensor the
    wider range counts.
    """
    by_weight = {one.weight_digest: one for one in learned}
    made, put = dict(ranges), dict[str, tuple[float, float]]()
    for name, weight in _layers(content):
        one = by_weight.get(weight_digest(weight))
        if one is not None and name in made:
            low, high = put.get(name, (one.low, one.high))
            put[name] = min(low, one.low), max(high, one.high)
    for name, (low, high) in put.items():
        before = made[name]
        made[name] = {**before, "min": np.full_like(before["min"], low), "max": np.full_like(before["max"], high)}
    return made


def _layers(content: bytes) -> list[tuple[str, np.ndarray]]:
    """Return (name of the activation, float weight) of every layer with constant weights."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    file: Any = schema.Model.GetRootAs(content, 0)  # generated code, without types
    graph = file.Subgraphs(0)
    found = []
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = file.OperatorCodes(operator.OpcodeIndex())
        kind = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        if kind not in LAYERS:
            continue
        at, of = _WEIGHTS.get(kind, (1, 0))
        weight, given = (graph.Tensors(int(operator.InputsAsNumpy()[i])) for i in (at, of))
        stored = file.Buffers(weight.Buffer())
        if weight.Type() == schema.TensorType.FLOAT32 and stored.DataLength():
            found.append((given.Name().decode(), stored.DataAsNumpy().view(np.float32)))
    return found
