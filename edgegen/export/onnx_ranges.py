"""Run ONNX models on calibration inputs: their outputs, and how large every tensor inside gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgegen.errors import ExportError
from edgegen.export.onnx_graph import element_types, to_bytes
from edgegen.ranges import Histogram, Range, histogram, merged

if TYPE_CHECKING:
    import onnx

_FETCH_BYTES = 256 << 20


def session(model: onnx.ModelProto) -> Any:
    """Return an onnxruntime session on the CPU that computes Q/DQ as written, in float.

    Fused int8 kernels would saturate in 16 bits on some processors: the choice of scales must not depend on the machine.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(to_bytes(model), options, providers=["CPUExecutionProvider"])


def outputs(model: onnx.ModelProto, samples: list[dict[str, np.ndarray]]) -> list[list[np.ndarray]]:
    """Return what `model` gives for each sample, outputs in graph order."""
    opened = session(model)
    return [opened.run(None, sample) for sample in samples]


def peaks(model: onnx.ModelProto, samples: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Return max |x| over all samples of every float tensor that is computed, and of the inputs.

    Raises ExportError naming a tensor that becomes NaN or infinite.
    """
    return {name: max(-low, high) for name, (low, high) in extremes(model, samples).items()}


def extremes(model: onnx.ModelProto, samples: list[dict[str, np.ndarray]]) -> dict[str, Range]:
    """Return the least and the greatest value of the same tensors, widened to contain 0; raises like `peaks`."""
    found: dict[str, Range] = {}
    for name, value in _tensors(model, _float_tensors(model), samples):
        low, high = float(value.min(initial=0.0)), float(value.max(initial=0.0))
        if not np.isfinite(high - low):
            raise ExportError(
                f"tensor '{name}' is not finite on a calibration input", hint="the generator is broken: check it in torch"
            )
        known = found.get(name, (0.0, 0.0))
        found[name] = min(known[0], low), max(known[1], high)
    return found


def histograms(
    model: onnx.ModelProto, highest: Mapping[str, float], samples: list[dict[str, np.ndarray]]
) -> dict[str, Histogram]:
    """Return for every tensor of `highest` (its max |x|) how its |x| spread from 0 to that maximum."""
    return _spread(model, {name: (0.0, peak) for name, peak in highest.items()}, samples, np.abs)


def signed_histograms(
    model: onnx.ModelProto, ends: Mapping[str, Range], samples: list[dict[str, np.ndarray]]
) -> dict[str, Histogram]:
    """Return for every tensor of `ends` (its extremes) how its values spread between them."""
    return _spread(model, ends, samples, np.asarray)


def _spread(
    model: onnx.ModelProto,
    ends: Mapping[str, Range],
    samples: list[dict[str, np.ndarray]],
    form: Callable[[np.ndarray], np.ndarray],
) -> dict[str, Histogram]:
    seen: dict[str, Histogram] = {}
    for name, value in _tensors(model, [name for name, (low, high) in ends.items() if high > low], samples):
        found = histogram(form(value), *ends[name])
        seen[name] = merged([seen[name], found]) if name in seen else found
    return seen


def psnr_db(results: list[list[np.ndarray]], references: list[list[np.ndarray]]) -> float:
    """Return the peak signal-to-noise ratio over all outputs; the peak is the references' own span. 200 dB when equal."""
    pairs = [
        (a, b) for result, reference in zip(results, references, strict=True) for a, b in zip(result, reference, strict=True)
    ]
    error = sum(float(np.square(a.astype(np.float64) - b).sum()) for a, b in pairs) / sum(b.size for _, b in pairs)
    span = max(float(b.max()) for _, b in pairs) - min(float(b.min()) for _, b in pairs)
    return 200.0 if error == 0 else min(200.0, float(10 * np.log10(max(span, 1e-12) ** 2 / error)))


def _float_tensors(model: onnx.ModelProto) -> list[str]:
    import onnx

    types = element_types(model)
    computed = [
        *(value.name for value in model.graph.input),
        *(name for node in model.graph.node for name in node.output if name),
    ]
    return [name for name in computed if types.get(name) == onnx.TensorProto.FLOAT]


def _tensors(model: onnx.ModelProto, names: list[str], samples: list[dict[str, np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (name, value) of the tensors `names` for each sample; at most `_FETCH_BYTES` of them are held at a time."""
    import onnx

    computed = [name for name in names if name not in {value.name for value in model.graph.input}]
    opened = session(_with_outputs(model, computed))
    sizes = _bytes_of(onnx.shape_inference.infer_shapes(model))
    for sample in samples:
        yield from ((name, sample[name]) for name in names if name in sample)
        for chunk in _chunks(computed, sizes):
            yield from zip(chunk, opened.run(chunk, sample), strict=True)


def _with_outputs(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    import onnx

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    known = {value.name for value in model.graph.output}
    shown.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in known)
    return shown


def _bytes_of(inferred: onnx.ModelProto) -> dict[str, int]:
    values = (*inferred.graph.value_info, *inferred.graph.output)
    return {v.name: 4 * int(np.prod([d.dim_value for d in v.type.tensor_type.shape.dim] or [1])) for v in values}


def _chunks(names: list[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    chunk: list[str] = []
    held = 0
    for name in names:
        size = sizes.get(name, 0)
        if chunk and held + size > _FETCH_BYTES:
            yield chunk
            chunk, held = [], 0
        chunk.append(name)
        held += size
    if chunk:
        yield chunk
