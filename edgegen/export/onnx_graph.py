"""A generator as a float32 ONNX graph, and the small edits that the ONNX back ends share.

Static shapes, batch 1, opset 20, constants as initializers, nodes named after the layers they come from, nothing in the file
but what computes: the same generator gives the same bytes.
"""

from __future__ import annotations

import ast
import contextlib
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgegen.errors import ExportError
from edgegen.spec import Precision

if TYPE_CHECKING:
    import onnx

    from edgegen.generator import Generator

OPSET = 20
"""The newest operator set that TensorRT 10.3 reads; Q/DQ with float16 scales need 19."""
IR_VERSION = 9
"""The file version that belongs to opset 20."""


def to_onnx(generator: Generator) -> onnx.ModelProto:
    """Return the float32 ONNX model of a lowered generator: batch 1, inputs and outputs in the order of its spec.

    Tensors are named as in the spec; an output that is called like an input gets "_out" appended. Raises ExportError naming
    the node that has no ONNX counterpart.
    """
    import torch

    from edgegen.graph import example_inputs

    spec = generator.spec
    for tensor in (*spec.inputs, *spec.outputs):
        if tensor.dtype != "float32":
            raise ExportError(
                f"'{tensor.name}' is {tensor.dtype}; the ONNX back ends take and give float32", hint="drop the pixels rewrite"
            )
    input_names, output_names = io_names(generator)
    with muted():
        try:
            program = torch.onnx.export(
                generator.module, example_inputs(spec), dynamo=True, opset_version=OPSET, input_names=input_names,
                output_names=output_names, verbose=False,
            )  # fmt: skip
        except Exception as error:  # the exporter raises whatever its passes raise: all of it means "not convertible"
            raise _conversion_error(error) from error
    assert program is not None
    return _cleaned(program.model_proto, name=spec.name)


def io_names(generator: Generator) -> tuple[list[str], list[str]]:
    """Return the names that inputs and outputs have in the ONNX file, in order."""
    inputs = [tensor.name for tensor in generator.spec.inputs]
    outputs = [f"{t.name}_out" if t.name in inputs else t.name for t in generator.spec.outputs]
    return inputs, outputs


def feeds(model: onnx.ModelProto, samples: list[tuple[np.ndarray, ...]]) -> list[dict[str, np.ndarray]]:
    """Return each sample (arrays in input order, batch axis 1) as what a session is fed with."""
    names = [value.name for value in model.graph.input]
    return [
        {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in zip(names, sample, strict=True)}
        for sample in samples
    ]


def require_calibration(precision: Precision, calibration: list[tuple[np.ndarray, ...]]) -> None:
    """Raise ExportError when `precision` has ranges to find and there is nothing to find them with: none is guessed."""
    if not calibration:
        raise ExportError(f"{precision.value} needs calibration inputs and there are none", hint="give --data")


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Keep the tools' warnings and log lines (missing torchvision, deprecations inside torch) off the terminal."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _conversion_error(error: Exception) -> ExportError:
    """Return an error that names the node; the exporter writes it as "%name : [num_users=1] = ..."."""
    texts, cause = [], error
    while cause is not None:
        texts.append(str(cause))
        cause = cause.__cause__
    node = next((m.group(1) for text in texts for m in [re.search(r"%(\w+) : ", text)] if m), "a node it does not name")
    reason = next((line.strip() for line in reversed(texts[-1].splitlines()) if line.strip()), type(error).__name__)
    return ExportError(f"ONNX cannot express '{node}': {reason}", hint="another back end may take it; or replace that layer")


def _cleaned(model: onnx.ModelProto, *, name: str) -> onnx.ModelProto:
    """Return `model` with readable node names and without source paths, shape notes, Constant nodes and unused constants."""
    from onnx import numpy_helper

    graph = model.graph
    used: Counter[str] = Counter()
    for node in graph.node:
        base = _layer_name(node)
        used[base] += 1
        node.name = base if used[base] == 1 else f"{base}_{used[base]}"
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for node in [n for n in graph.node if n.op_type == "Constant"]:
        (value,) = (a.t for a in node.attribute if a.name == "value")
        graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(value), node.output[0]))
        graph.node.remove(node)
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.ClearField("metadata_props")
        value.ClearField("doc_string")
    for field in ("value_info", "doc_string", "metadata_props"):
        graph.ClearField(field)
    for field in ("metadata_props", "doc_string", "producer_version"):
        model.ClearField(field)
    graph.name, model.producer_name, model.ir_version = name, "edgegen", IR_VERSION
    drop_unused_constants(model)
    return model


def _layer_name(node: onnx.NodeProto) -> str:
    """Return "features.3/Conv": the path of the torch layer that `node` comes from, and its operation."""
    scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "[]")
    path = [scope for scope in ast.literal_eval(scopes) if scope]
    where = path[-2] if len(path) > 1 else path[-1] if path else node.name
    return f"{where}/{node.op_type}"


# --- looking at graphs and changing them --------------------------------------------------------------------------


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return every initializer by name."""
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def makers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Return the node that makes each tensor; graph inputs and initializers have none."""
    return {name: node for node in model.graph.node for name in node.output if name}


def readers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """Return the nodes that read each tensor, once per use; a graph output is not a reader."""
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            if name:
                found.setdefault(name, []).append(node)
    return found


def attribute(node: onnx.NodeProto, name: str, default: object) -> object:
    """Return the value of an attribute; `default` where the node leaves it out."""
    from onnx import helper

    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def add_constant(model: onnx.ModelProto, name: str, value: np.ndarray) -> str:
    """Add an initializer and return its name."""
    from onnx import numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def replace_nodes(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    """Make `nodes` the nodes of `model`, in this order."""
    copies = list(nodes)
    model.graph.ClearField("node")
    model.graph.node.extend(copies)


def drop_unused_constants(model: onnx.ModelProto) -> None:
    """Remove initializers that nothing reads."""
    read = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    model.graph.ClearField("initializer")
    model.graph.initializer.extend(kept)


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type (`onnx.TensorProto.FLOAT`, ...) of every tensor whose type can be inferred."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model)
    types = {
        v.name: v.type.tensor_type.elem_type for v in (*inferred.graph.input, *inferred.graph.output, *inferred.graph.value_info)
    }
    return types | {tensor.name: tensor.data_type for tensor in inferred.graph.initializer}


def to_bytes(model: onnx.ModelProto) -> bytes:
    """Return the file's content, the same for the same model."""
    return model.SerializeToString(deterministic=True)


def operation_counts(model: onnx.ModelProto) -> Mapping[str, int]:
    """Return how often each operation occurs, by name."""
    return dict(sorted(Counter(node.op_type for node in model.graph.node).items()))
