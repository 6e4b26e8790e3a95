"""Edits of OpenVINO graphs: which operations NNCF made int8, and the same graph with some of them back in float."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

_MOVES = (
    "Pad",
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Slice",
    "StridedSlice",
    "DepthToSpace",
    "SpaceToDepth",
    "Concat",
)
_WEIGHTS = "/fq_weights_"  # what NNCF calls the int8 weights of an operation


def int8_operations(quantised: Any) -> dict[str, str]:
    """Return name and type of every computing operation whose data come through a quantiser, in the order in which they run."""
    return {
        operation.get_friendly_name(): operation.get_type_name()
        for operation in quantised.get_ordered_ops()
        if operation.get_type_name() not in (*_MOVES, "FakeQuantize", "Result")
        and any(_behind_quantiser(port.get_source_output()) for port in operation.inputs())
    }


def with_float(quantised: Any, graph: Any, names: Collection[str]) -> Any:
    """Return a copy of `quantised` in which the operations called `names` are as in the float `graph` it was made from.

    Their inputs come from in front of the quantisers, weights and corrected biases are the original ones. What others read from
    the same quantisers stays as it is.
    """
    made = quantised.clone()
    originals = {operation.get_friendly_name(): operation for operation in graph.get_ops()}
    moved: dict[str, Any] = {}
    for operation in made.get_ordered_ops():
        name = operation.get_friendly_name()
        if name in names and name in originals:
            _restore(operation, originals, moved)
    made.validate_nodes_and_infer_types()
    return made


def _restore(operation: Any, originals: dict[str, Any], moved: dict[str, Any]) -> None:
    original = originals[operation.get_friendly_name()]
    for index, port in enumerate(operation.inputs()):
        source = port.get_source_output()
        if _behind_quantiser(source):
            port.replace_source_output(_in_front_of_quantiser(source, moved))
        elif _has_int8_weights(source.get_node()):
            port.replace_source_output(_constant(original.input_value(index)))
    for target in operation.output(0).get_target_inputs():
        reader = target.get_node()
        if reader.get_type_name() == "Add" and reader.get_friendly_name() in originals:
            _restore_bias(reader, originals[reader.get_friendly_name()])


def _behind_quantiser(output: Any) -> bool:
    """Whether `output` is that of a quantiser of activations, as such or with its values moved."""
    node = output.get_node()
    if node.get_type_name() == "FakeQuantize":
        return True
    sources = _moved(node)
    return bool(sources) and all(_behind_quantiser(node.input_value(index)) for index in sources)


def _in_front_of_quantiser(output: Any, moved: dict[str, Any]) -> Any:
    """Return the same values before they were quantised; operations that move them are copied once, into `moved`."""
    from openvino.utils.node_factory import NodeFactory

    node = output.get_node()
    if node.get_type_name() == "FakeQuantize":
        return node.input_value(0)
    name = node.get_friendly_name()
    if name not in moved:
        sources = _moved(node)
        inputs = [
            _in_front_of_quantiser(value, moved) if index in sources else value for index, value in enumerate(node.input_values())
        ]
        moved[name] = NodeFactory("opset13").create(node.get_type_name(), inputs, node.get_attributes())
        moved[name].set_friendly_name(name + "/float")
    return moved[name].output(0)


def _moved(node: Any) -> range:
    """Return the inputs whose values the operation moves about without computing; none for operations that compute."""
    kind = node.get_type_name()
    if kind not in _MOVES or node.get_output_size() != 1:
        return range(0)
    return range(node.get_input_size() if kind == "Concat" else 1)


def _restore_bias(add: Any, original: Any) -> None:
    for port, source in zip(add.inputs(), original.inputs(), strict=True):
        is_constant = [p.get_source_output().get_node().get_type_name() == "Constant" for p in (port, source)]
        if all(is_constant):
            port.replace_source_output(_constant(source.get_source_output()))


def _has_int8_weights(node: Any) -> bool:
    while node.get_input_size():
        if _WEIGHTS in node.get_friendly_name():
            return True
        if node.get_type_name() not in ("Reshape", "Transpose", "Convert", "Unsqueeze"):
            return False
        node = node.input_value(0).get_node()
    return False


def _constant(output: Any) -> Any:
    """Return the output of a new constant with the value of `output`, which depends on constants alone."""
    import openvino as ov
    from openvino import opset13

    node = output.get_node()
    if node.get_type_name() == "Constant":
        value = np.array(node.data)
    else:
        make: Any = ov.Model  # its type stub knows no constructor
        alone = make([opset13.result(output)], [], "weights")
        compiled = ov.Core().compile_model(alone, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        value = compiled([])[0].copy()
    return opset13.constant(value).output(0)
