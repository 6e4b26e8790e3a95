"""How large an artifact will be: its weights in the precision that ships, and what the file format adds per graph node."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from edgegen.generator import Generator
from edgegen.graph import count_params
from edgegen.spec import Backend, Precision


@dataclasses.dataclass(frozen=True)
class _Format:
    """Bytes per weight, per node of the graph (names, shapes, scales of channels), and of every artifact."""

    weight: int
    node: int
    fixed: int = 0


_BUILDER = 13_500  # build_engine.py, which lies beside every TensorRT file
# Read off artifacts of DCGAN, VAE, SRGAN and style generators with 10 to 56 nodes. int8 brings per-channel scales and the
# quantisers' own nodes; the ONNX files keep int8 weights as float16, because TensorRT folds them when it builds.
_FORMATS: Mapping[Backend, Mapping[Precision, _Format]] = {
    Backend.OPENVINO: {
        Precision.F32: _Format(4, 1900),
        Precision.F16: _Format(2, 2500),
        Precision.INT8: _Format(1, 3800),
    },
    Backend.LITERT: {
        Precision.F32: _Format(4, 520),
        Precision.F16: _Format(2, 750),
        Precision.INT8: _Format(1, 2500),
        Precision.INT8_DYNAMIC: _Format(1, 1600),
        Precision.INT8_FULL: _Format(1, 2500),
    },
    Backend.TENSORRT: {
        Precision.F32: _Format(4, 400, _BUILDER),
        Precision.F16: _Format(2, 400, _BUILDER),
        Precision.INT8: _Format(2, 700, _BUILDER),
    },
}


def artifact_bytes(generator: Generator, backend: Backend, precision: Precision) -> int | None:
    """Return the expected size in bytes of the artifact of `generator`; None where none was measured."""
    form = _FORMATS.get(backend, {}).get(precision)
    if form is None:
        return None
    nodes = sum(node.op.startswith("call_") for node in generator.module.graph.nodes)
    return count_params(generator.module) * form.weight + nodes * form.node + form.fixed
