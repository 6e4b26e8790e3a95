"""The operations of a .tflite, read from its flatbuffer: which there are, what they read, and what is in int8."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

LAYERS = ("CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "DEPTHWISE_CONV_2D")
_MOVES = ("SLICE", "STRIDED_SLICE", "PAD", "RESHAPE", "TRANSPOSE")
# A concatenation in int8 forces one scale on its inputs (1.3 dB on a U-Net's skips); inside our own layers all come from one.
_OWN_LAYERS = re.compile(r"litert_layers\.")


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation in the order of execution. `inputs` and `outputs` are tensor numbers, constants left out of `inputs`.

    `scope` is what ai-edge-quantizer matches its rules against, `axes` the most that one of its variable tensors has.
    """

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    scope: str
    has_int8_weights: bool
    gives_int8: bool
    axes: int = 0

    @property
    def is_layer(self) -> bool:
        """Whether it multiplies by weights."""
        return self.kind in LAYERS

    @property
    def is_move(self) -> bool:
        """Whether it gives values of one input unchanged, in other places."""
        return self.kind in _MOVES or (self.kind == "CONCATENATION" and _OWN_LAYERS.search(self.scope) is not None)


def read_operations(content: bytes) -> list[Operation]:
    """Return the operations of a .tflite with one graph."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    file: Any = schema.Model.GetRootAs(content, 0)  # generated code, without types
    graph = file.Subgraphs(0)
    variable = {int(t) for t in graph.InputsAsNumpy()}
    found = []
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = file.OperatorCodes(operator.OpcodeIndex())
        inputs = [int(t) for t in operator.InputsAsNumpy()] if operator.InputsLength() else []
        outputs = [int(t) for t in operator.OutputsAsNumpy()]
        variable.update(outputs)
        is_int8 = [t >= 0 and graph.Tensors(t).Type() == schema.TensorType.INT8 for t in (*inputs, *outputs)]
        found.append(
            Operation(
                index,
                kind=names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())],
                inputs=tuple(t for t in inputs if t in variable),
                outputs=tuple(outputs),
                scope="".join(graph.Tensors(t).Name().decode() + ";" for t in outputs),
                has_int8_weights=len(inputs) > 1 and is_int8[1],
                gives_int8=is_int8[len(inputs)],
                axes=max(graph.Tensors(t).ShapeLength() for t in (*(i for i in inputs if i in variable), *outputs)),
            )
        )
    return found


def plan_int8(operations: list[Operation]) -> tuple[frozenset[int], frozenset[int]]:
    """Return the indices of (layers for dynamic int8, layers and moves for static int8); the rest stays in float.

    A layer in front of a normalisation, and the last one, give float: eight bits with a fixed range cost 6-13 dB there on
    style networks and gain no time. Everything else that multiplies is static, and so are moves next to static layers,
    which then move a quarter of the bytes. Depthwise layers are static always: XNNPACK takes no dynamic ones.
    """
    readers: dict[int, list[Operation]] = {}
    for operation in operations:
        for tensor in operation.inputs:
            readers.setdefault(tensor, []).append(operation)
    behind = {o.index: [r for t in o.outputs for r in readers.get(t, ())] for o in operations}
    leads_to_layer, leads_to_mean = set(), set()
    for o in reversed(operations):
        if any(r.is_layer or r.index in leads_to_layer for r in behind[o.index]):
            leads_to_layer.add(o.index)
        if any(r.kind == "MEAN" or (r.is_move and r.index in leads_to_mean) for r in behind[o.index]):
            leads_to_mean.add(o.index)
    layers = {o.index for o in operations if o.is_layer}
    can_be_dynamic = {o.index for o in operations if o.is_layer and o.kind != "DEPTHWISE_CONV_2D"}
    dynamic = {i for i in can_be_dynamic if i in leads_to_mean or i not in leads_to_layer}
    static = layers - dynamic
    makers = {tensor: o.index for o in operations for tensor in o.outputs}
    for o in operations:
        if o.is_move and all(makers.get(t) in static for t in o.inputs):
            static.add(o.index)
    for o in reversed(operations):
        if o.is_move and behind[o.index] and all(r.index in static for r in behind[o.index]):
            static.add(o.index)
    return frozenset(dynamic), frozenset(static)
