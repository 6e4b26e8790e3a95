"""What is in a .tflite and how much of it XNNPACK takes: worth reporting, because what it leaves runs on slow kernels."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

from edgegen.export.litert_convert import muted
from edgegen.export.litert_graph import read_operations
from edgegen.export.litert_quantize import FLAVOURS

if TYPE_CHECKING:
    from edgegen.spec import Precision


def file_facts(content: bytes, precision: Precision) -> dict[str, Any]:
    """Return facts of one .tflite: its size, operations by kind, layers with int8 weights, and the share that is delegated.

    `delegated_share`, `partitions` and `left_out` are None where this version of LiteRT does not tell.
    """
    operations = read_operations(content)
    counts = collections.Counter(operation.kind for operation in operations)
    layers = [operation for operation in operations if operation.is_layer]
    share, partitions, left_out = delegation(content)
    return {
        "flavour": FLAVOURS[precision],
        "size_bytes": len(content),
        "operations": dict(sorted(counts.items())),
        "transposes": counts["TRANSPOSE"],
        "layers": len(layers),
        "int8_layers": sum(layer.has_int8_weights for layer in layers),
        "static_layers": sum(layer.gives_int8 for layer in layers),
        "delegated_share": share,
        "partitions": partitions,
        "left_out": left_out,
    }


def int8_ports(content: bytes, signature: str) -> dict[str, dict[str, float]]:
    """Return scale and zero point of every int8 input and output by name: real value = (int8 - zero_point) * scale."""
    from ai_edge_litert.interpreter import Interpreter

    with muted():
        runner = Interpreter(model_content=content, num_threads=1).get_signature_runner(signature)
        ports = {**runner.get_input_details(), **runner.get_output_details()}
    steps = {name: port["quantization"] for name, port in ports.items() if port["dtype"].__name__ == "int8"}
    return {name: {"scale": float(scale), "zero_point": int(zero)} for name, (scale, zero) in sorted(steps.items())}


def delegation(content: bytes) -> tuple[float | None, int | None, dict[str, int] | None]:
    """Return (share of operations that XNNPACK runs, number of its partitions, operations left to other kernels by kind).

    A partition's operations are those between its outputs and its inputs. Three times None where LiteRT hides its plan.
    """
    from ai_edge_litert.interpreter import Interpreter

    with muted():
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        try:
            nodes = interpreter._get_ops_details()  # private, and the only way to see partitions
            partitions = [node for node in nodes if node["op_name"] == "DELEGATE"]
            original = [node for node in nodes if node["op_name"] != "DELEGATE"]
            makers = {int(output): node["index"] for node in original for output in node["outputs"]}
            inputs = {node["index"]: [int(i) for i in node["inputs"]] for node in original}
        except (AttributeError, KeyError, TypeError):
            return None, None, None
    covered: set[int] = set()
    for partition in partitions:
        ends = {int(i) for i in partition["inputs"]}
        pending = [int(i) for i in partition["outputs"]]
        while pending:
            tensor = pending.pop()
            maker = makers.get(tensor)
            if tensor not in ends and maker is not None and maker not in covered:
                covered.add(maker)
                pending += inputs[maker]
    left_out = collections.Counter(node["op_name"] for node in original if node["index"] not in covered)
    return len(covered) / max(1, len(original)), len(partitions), dict(sorted(left_out.items()))
