"""The operations of a finished artifact in the words of op tables, so that a bundle can be checked against another target.

A .tflite says CONV_2D, an ONNX file Conv, an OpenVINO IR Convolution: all are Conv2d here. What has no counterpart in the
vocabulary keeps its own name, and no table knows it.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgegen.errors import BundleError, EdgegenError
from edgegen.export.node_settings import NodeFacts
from edgegen.export.preflight import Finding, judge_nodes
from edgegen.op_table import Action, OpTable, Setting
from edgegen.spec import Backend, Precision

_TFLITE = {
    "CONV_2D": "Conv2d", "DEPTHWISE_CONV_2D": "Conv2d", "TRANSPOSE_CONV": "ConvTranspose2d", "FULLY_CONNECTED": "Linear",
    "RELU": "ReLU", "RELU6": "ReLU6", "LEAKY_RELU": "LeakyReLU", "PRELU": "PReLU", "ELU": "ELU", "GELU": "GELU", "TANH": "Tanh",
    "LOGISTIC": "Sigmoid", "MIRROR_PAD": "ReflectionPad2d", "PAD": "ZeroPad2d", "PADV2": "ConstantPad2d",
    "RESIZE_NEAREST_NEIGHBOR": "Upsample", "RESIZE_BILINEAR": "Upsample", "MAX_POOL_2D": "MaxPool2d",
    "AVERAGE_POOL_2D": "AvgPool2d", "MEAN": "AdaptiveAvgPool2d", "SLICE": "getitem", "STRIDED_SLICE": "getitem",
    "RESHAPE": "Reshape", "TRANSPOSE": "permute", "CONCATENATION": "cat", "ADD": "add", "SUB": "sub", "MUL": "mul",
    "DIV": "truediv", "NEG": "neg", "QUANTIZE": "Identity", "DEQUANTIZE": "Identity",
}  # fmt: skip
_ONNX = {
    "Conv": "Conv2d", "ConvTranspose": "ConvTranspose2d", "Gemm": "Linear", "MatMul": "Linear", "Relu": "ReLU", "PRelu": "PReLU",
    "LeakyRelu": "LeakyReLU", "Elu": "ELU", "Gelu": "GELU", "Tanh": "Tanh", "Sigmoid": "Sigmoid", "Softplus": "Softplus",
    "Clip": "Clamp", "BatchNormalization": "BatchNorm2d", "InstanceNormalization": "InstanceNorm2d", "Resize": "Upsample",
    "MaxPool": "MaxPool2d", "AveragePool": "AvgPool2d", "GlobalAveragePool": "AdaptiveAvgPool2d", "DepthToSpace": "PixelShuffle",
    "SpaceToDepth": "PixelUnshuffle", "Slice": "getitem", "Gather": "getitem", "Reshape": "Reshape", "Flatten": "Flatten",
    "Transpose": "permute", "Concat": "cat", "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "truediv", "Neg": "neg",
    "Unsqueeze": "unsqueeze", "Pad": "ConstantPad2d", "Identity": "Identity", "Cast": "Identity", "Constant": "Identity",
    "QuantizeLinear": "Identity", "DequantizeLinear": "Identity",
}  # fmt: skip
_OPENVINO = {
    "Convolution": "Conv2d", "GroupConvolution": "Conv2d", "ConvolutionBackpropData": "ConvTranspose2d",
    "GroupConvolutionBackpropData": "ConvTranspose2d", "MatMul": "Linear", "Relu": "ReLU", "PRelu": "PReLU", "PReLU": "PReLU",
    "Elu": "ELU", "Swish": "SiLU", "Gelu": "GELU", "Tanh": "Tanh", "Sigmoid": "Sigmoid", "SoftPlus": "Softplus", "Clamp": "Clamp",
    "BatchNormInference": "BatchNorm2d", "MVN": "InstanceNorm2d", "Interpolate": "Upsample", "MaxPool": "MaxPool2d",
    "AvgPool": "AvgPool2d", "AdaptiveAvgPool": "AdaptiveAvgPool2d", "DepthToSpace": "PixelShuffle",
    "SpaceToDepth": "PixelUnshuffle", "Slice": "getitem", "StridedSlice": "getitem", "Gather": "getitem", "Reshape": "Reshape",
    "Transpose": "permute", "Concat": "cat", "Add": "add", "Subtract": "sub", "Multiply": "mul", "Divide": "truediv",
    "Negative": "neg", "Unsqueeze": "unsqueeze", "Squeeze": "Reshape", "Pad": "ConstantPad2d", "Convert": "Identity",
    "FakeQuantize": "Identity", "Round": "Identity",
}  # fmt: skip
_MOVES = {"Pad", "Reshape", "Transpose", "DepthToSpace", "SpaceToDepth", "MaxPool", "Concat", "Slice", "StridedSlice"}
_NO_NODES = {"Constant", "Parameter", "Result", "Const"}


@dataclasses.dataclass(frozen=True)
class ArtifactNode:
    """An operation of an artifact and the precision it has in the file."""

    facts: NodeFacts
    precision: Precision


def judge_artifact(
    backend: Backend, precision: Precision, files: Mapping[str, bytes], tables: Iterable[OpTable]
) -> list[Finding]:
    """Return the verdict on every operation of one artifact; `files` holds the bytes of its files by name.

    What a table would have rewritten cannot be any more: an accelerator refuses it, a back end of ours runs it within its
    limit. A float operation in an int8 artifact is a float island.
    """
    asked, found = tuple(tables), []
    for node in artifact_nodes(backend, precision, files):
        (finding,) = judge_nodes([node.facts], node.precision, asked)
        if finding.action is Action.REWRITTEN:
            ours = all(table.backend is not None for table in asked)
            finding = dataclasses.replace(finding, action=Action.NATIVE if ours else Action.REFUSED, rewrite="")
        is_int8 = precision in (Precision.INT8, Precision.INT8_DYNAMIC)
        if is_int8 and finding.action is Action.NATIVE and node.precision not in (Precision.INT8, Precision.INT8_DYNAMIC):
            finding = dataclasses.replace(finding, action=Action.FLOAT, reason="in float in this file")
        found.append(finding)
    return found


def artifact_nodes(backend: Backend, precision: Precision, files: Mapping[str, bytes]) -> list[ArtifactNode]:
    """Return the operations of an artifact in the order of execution. Raises BundleError for files that are none."""
    try:
        match backend:
            case Backend.LITERT:
                return _of_tflite(_only(files, ".tflite"))
            case Backend.TENSORRT | Backend.ONNXRUNTIME:
                return _of_onnx(_only(files, ".onnx"), precision)
            case Backend.OPENVINO:
                return _of_openvino(files)
    except (EdgegenError, MemoryError):
        raise
    except Exception as problem:  # the readers of other projects raise what they like for damaged files
        said = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise BundleError(f"the {backend.value} artifact cannot be read: {said[:200]}", hint="make the bundle again") from problem


def _only(files: Mapping[str, bytes], ending: str) -> bytes:
    found = [content for name, content in files.items() if name.endswith(ending)]
    if len(found) != 1:
        raise BundleError(f"the artifact has {len(found)} {ending} files, not one", hint="copy the bundle again")
    return found[0]


def _of_tflite(content: bytes) -> list[ArtifactNode]:
    from edgegen.errors import require
    from edgegen.export.litert_graph import read_operations

    require("ai_edge_litert", extra="tflite")
    found, makers = [], {}
    for operation in read_operations(content):
        op = _TFLITE.get(operation.kind, operation.kind)
        settings: dict[str, tuple[Setting, ...]] = {"after": tuple(makers.get(t, "input") for t in operation.inputs[:1])}
        if operation.kind.startswith("RESIZE_"):
            settings["mode"] = ("nearest" if "NEAREST" in operation.kind else "bilinear",)
        if operation.kind == "MEAN":
            settings |= {"output": (1,), "divides": ("yes",)}
        if operation.kind == "PADV2":
            settings["value"] = ("not 0",)
        if op in ("Conv2d", "ConvTranspose2d"):
            settings["depthwise"] = ("yes" if operation.kind.startswith("DEPTH") else "no",)
        makers |= dict.fromkeys(operation.outputs, op)
        kept = Precision.INT8 if operation.gives_int8 else Precision.INT8_DYNAMIC if operation.has_int8_weights else Precision.F32
        name = f"{operation.index}:{operation.kind}"
        found.append(ArtifactNode(NodeFacts(name, op, settings), kept))
    return found


def _of_onnx(content: bytes, precision: Precision) -> list[ArtifactNode]:
    from edgegen.errors import require

    onnx = require("onnx", extra="onnx")
    graph = onnx.load_model_from_string(content).graph
    makers = {name: node for node in graph.node for name in node.output}
    floats = Precision.F32 if precision is Precision.F32 else Precision.F16
    found = []
    for node in graph.node:
        op = _ONNX.get(node.op_type, node.op_type)
        values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        before = makers.get(node.input[0]) if node.input else None
        is_int8 = before is not None and before.op_type == "DequantizeLinear"
        while before is not None and before.op_type in ("DequantizeLinear", "QuantizeLinear"):
            before = makers.get(before.input[0])
        settings = _attributes(values, {"kernel_shape": "kernel", "strides": "stride", "pads": "padding", "group": "groups"})
        settings["after"] = (str(_ONNX.get(before.op_type, before.op_type)) if before is not None else "input",)
        if node.op_type == "Resize":
            mode = values.get("mode", b"nearest").decode()
            settings["mode"] = ({"linear": "bilinear", "cubic": "bicubic"}.get(str(mode), str(mode)),)
        if node.op_type == "Pad" and values.get("mode", b"constant") == b"reflect":
            op = "ReflectionPad2d"
        if node.op_type == "InstanceNormalization":
            settings["statistics"] = ("own",)
        found.append(
            ArtifactNode(NodeFacts(node.name or node.output[0], str(op), settings), Precision.INT8 if is_int8 else floats)
        )
    return found


def _of_openvino(files: Mapping[str, bytes]) -> list[ArtifactNode]:
    import openvino as ov

    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            if name.endswith((".xml", ".bin")):
                (Path(folder) / Path(name).name).write_bytes(content)
        (description,) = Path(folder).glob("*.xml")
        model = ov.Core().read_model(description)
    found = []
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind in _NO_NODES or _is_constant(node):
            continue
        source = _behind_quantisation(node)
        settings = _attributes(node.get_attributes(), {"strides": "stride", "pads_begin": "padding", "mode": "mode"})
        settings["after"] = (str(_OPENVINO.get(source, source)) if source not in _NO_NODES else "input",)
        if kind == "MVN":
            settings["statistics"] = ("own",)
        if kind == "Interpolate":
            mode = str(node.get_attributes().get("mode", "nearest")).lower()
            settings["mode"] = ("nearest" if "nearest" in mode else "bicubic" if "cubic" in mode else "bilinear",)
        if kind.startswith("Group"):
            settings["groups"] = (int(node.input_value(1).get_partial_shape()[0].get_length()),)
        kept = Precision.INT8 if _is_int8(node) else Precision.F32
        found.append(ArtifactNode(NodeFacts(node.get_friendly_name(), str(_OPENVINO.get(kind, kind)), settings), kept))
    return found


def _is_constant(node: Any) -> bool:
    """Whether everything `node` reads is constant: weights on their way through Convert, Subtract and Multiply."""
    sources = [node.input_value(i).get_node() for i in range(node.get_input_size())]
    return bool(sources) and all(s.get_type_name() == "Constant" or _is_constant(s) for s in sources)


def _is_int8(node: Any) -> bool:
    """Whether `node` reads int8: weighted ones have weights that were quantised, others a FakeQuantize in front, past moves."""
    if _OPENVINO.get(node.get_type_name()) in ("Conv2d", "ConvTranspose2d", "Linear"):
        source = node.input_value(1).get_node()
        while source.get_input_size() > 0 and source.get_type_name() != "FakeQuantize":
            source = source.input_value(0).get_node()
        return source.get_type_name() == "FakeQuantize" or source.get_output_element_type(0).get_type_name() in ("i8", "u8")
    while node.get_input_size() > 0:
        node = node.input_value(0).get_node()
        if node.get_type_name() == "FakeQuantize":
            return True
        if node.get_type_name() not in _MOVES:
            return False
    return False


def _behind_quantisation(node: Any) -> str:
    """Return the type of what makes the first input of `node`, past FakeQuantize."""
    while node.get_input_size() > 0:
        node = node.input_value(0).get_node()
        if node.get_type_name() != "FakeQuantize":
            return node.get_type_name()
    return "Parameter"


def _attributes(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, tuple[Setting, ...]]:
    """Return those attributes that conditions ask for, under their names."""
    found: dict[str, tuple[Setting, ...]] = {}
    for attribute, name in names.items():
        value = values.get(attribute)
        if value is not None:
            found[name] = tuple(value) if isinstance(value, list | tuple) else (value,)
    return found
