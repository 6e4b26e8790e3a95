"""Operations that ai-edge-quantizer leaves in float, or in a form that XNNPACK leaves out, put into an int8 form that both take.

LEAKY_RELU: the quantiser has no rule for it and writes DEQUANTIZE, LEAKY_RELU, QUANTIZE. LiteRT's kernel (and XNNPACK's) reads
int8 with one scale and writes int8 with another, so it can stand on the int8 tensors of both ends. RELU of its own: XNNPACK takes
none in int8. Its output's zero point is -128, and a QUANTIZE to that scale saturates there: what is below 0 becomes 0.
"""

from __future__ import annotations

from typing import Any

_FILE_IDENTIFIER = b"TFL3"
_LOWEST = -128


def in_int8_forms(content: bytes) -> bytes:
    """Return a .tflite with one graph whose LEAKY_RELU and RELU compute in int8 where the tensors around them are int8."""
    from ai_edge_litert import schema_py_generated as schema

    file: Any = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = _Graph(file, schema.BuiltinOperator)
    changed = [graph.widen_leaky_relu(o) or graph.saturate_relu(o, schema.TensorType.INT8) for o in list(graph.operators)]
    if not any(changed):
        return content
    graph.drop_unread()
    return _packed(file, content)


def with_float_ends(content: bytes) -> bytes:
    """Return a .tflite with one graph that takes and gives float32: int8 inputs get a QUANTIZE, int8 outputs a DEQUANTIZE."""
    from ai_edge_litert import schema_py_generated as schema

    file: Any = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = _Graph(file, schema.BuiltinOperator)
    types = schema.TensorType
    ends = [(e, number, inward) for inward in (True, False) for e, number in enumerate(graph.ends(inward=inward))]
    int8 = [end for end in ends if graph.graph.tensors[end[1]].type == types.INT8]
    for end, number, inward in int8:
        graph.widen_end(end, number, types.FLOAT32, inward=inward)
    return _packed(file, content) if int8 else content


def _packed(file: Any, content: bytes) -> bytes:
    """Return the bytes of an edited file that was read from `content`."""
    import flatbuffers

    _take_in_buffers(file, content)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(file.Pack(builder), file_identifier=_FILE_IDENTIFIER)
    return bytes(builder.Output())


def _take_in_buffers(file: Any, content: bytes) -> None:
    """Bring weights that lie behind the flatbuffer into it: large files keep them there, at offsets that an edit moves."""
    import numpy as np

    for buffer in file.buffers:
        if buffer.offset > 1:
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0


class _Graph:
    """The graph of a file that is being edited, with who makes and who reads each tensor before any edit."""

    def __init__(self, file: Any, codes: Any) -> None:
        self.file, self.graph, self.codes = file, file.subgraphs[0], codes
        self.operators: list[Any] = self.graph.operators
        self.makers = {int(t): o for o in self.operators for t in o.outputs}
        self.readers: dict[int, list[Any]] = {}
        for operator in self.operators:
            for tensor in operator.inputs:
                self.readers.setdefault(int(tensor), []).append(operator)

    def is_a(self, operator: Any, kind: str) -> bool:
        """Tell whether `operator` is of `kind`, such as "RELU"."""
        code = self.file.operatorCodes[operator.opcodeIndex]
        return max(code.builtinCode, code.deprecatedBuiltinCode) == getattr(self.codes, kind)

    def widen_leaky_relu(self, operator: Any) -> bool:
        """Put a LEAKY_RELU between DEQUANTIZE and QUANTIZE onto their int8 tensors; the QUANTIZE goes."""
        if not self.is_a(operator, "LEAKY_RELU"):
            return False
        before, after = self.makers.get(int(operator.inputs[0])), self.readers.get(int(operator.outputs[0]), [])
        if before is None or not self.is_a(before, "DEQUANTIZE") or len(after) != 1 or not self.is_a(after[0], "QUANTIZE"):
            return False
        operator.inputs, operator.outputs = [int(before.inputs[0])], [int(after[0].outputs[0])]
        self.file.operatorCodes[operator.opcodeIndex].version = 2  # the first with int8
        self.operators[:] = [other for other in self.operators if other is not after[0]]
        return True

    def saturate_relu(self, operator: Any, int8: int) -> bool:
        """Make an int8 RELU whose output begins at the lowest value a QUANTIZE."""
        if not self.is_a(operator, "RELU"):
            return False
        source, result = (self.graph.tensors[int(t)] for t in (operator.inputs[0], operator.outputs[0]))
        if source.type != int8 or result.type != int8 or int(result.quantization.zeroPoint[0]) != _LOWEST:
            return False
        operator.opcodeIndex = self._code("QUANTIZE")
        return True

    def drop_unread(self) -> None:
        """Remove operations that nothing reads any more."""
        wanted, kept = {int(t) for t in self.graph.outputs}, []
        for operator in reversed(self.operators):
            if any(int(t) in wanted for t in operator.outputs):
                kept.append(operator)
                wanted |= {int(t) for t in operator.inputs}
        self.operators[:] = kept[::-1]

    def ends(self, *, inward: bool) -> list[int]:
        """Return the tensors that come in, or those that go out."""
        return [int(t) for t in (self.graph.inputs if inward else self.graph.outputs)]

    def widen_end(self, end: int, number: int, float32: int, *, inward: bool) -> None:
        """Put a float32 tensor in place of input or output `end`, int8 tensor `number`, and what converts between them."""
        import copy

        tensors, inner = self.graph.tensors, self.graph.tensors[number]
        outer = copy.copy(inner)
        outer.type, outer.quantization, outer.buffer = float32, None, 0
        inner.name = inner.name + b"_int8"
        tensors.append(outer)
        step = copy.copy(self.operators[0])
        step.opcodeIndex = self._code("QUANTIZE" if inward else "DEQUANTIZE")
        step.builtinOptions, step.builtinOptionsType, step.intermediates = None, 0, None
        pair = ([len(tensors) - 1], [number])
        step.inputs, step.outputs = pair if inward else pair[::-1]
        self.operators.insert(0 if inward else len(self.operators), step)
        ports = self.ends(inward=inward)
        ports[end] = len(tensors) - 1
        setattr(self.graph, "inputs" if inward else "outputs", ports)
        for signature in self.file.signatureDefs:
            for port in signature.inputs if inward else signature.outputs:
                port.tensorIndex = len(tensors) - 1 if port.tensorIndex == number else port.tensorIndex

    def _code(self, kind: str) -> int:
        """Return the index of an operator code for int8 `kind`, made now if the file has none."""
        import copy

        wanted = getattr(self.codes, kind)
        for index, code in enumerate(self.file.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == wanted and code.version >= 2:
                return index
        made = copy.copy(self.file.operatorCodes[0])
        made.builtinCode, made.deprecatedBuiltinCode, made.customCode, made.version = wanted, min(wanted, 127), None, 2
        self.file.operatorCodes.append(made)
        return len(self.file.operatorCodes) - 1
