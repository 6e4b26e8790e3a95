"""int8 for onnxruntime's CPU kernels, by its own quantiser: which graph, which operations, which ranges, by the picture.

The kernels want other Q/DQ nodes than TensorRT's (edgegen/export/qdq.py): both sides of a convolution in int8, and no transposed
convolution, which has no int8 kernel. Weights have one scale per output channel. Unsigned activations take half the time of
signed ones on x86, onnxruntime's documentation advises signed ones on ARM. What is fast depends on the graph and the processor,
so several forms are made and the gate chooses.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgegen.errors import ExportError
from edgegen.export.int8_search import WORTH_DB, heads, learned_ranges, picture_driven_ranges
from edgegen.export.onnx_graph import IR_VERSION, constants, muted, readers
from edgegen.export.onnx_ranges import extremes, outputs, psnr_db, signed_histograms
from edgegen.export.qdq import WEIGHTED
from edgegen.ranges import ENOUGH_DB, Estimator, estimate_range

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import onnx
    from onnxruntime.quantization import CalibrationDataReader

    from edgegen.ranges import LearnedRange, Range

_TRANSPOSED = "ConvTranspose"
_CUTTING = ("Relu", "Clip")
_JUDGES = 4
_MOST_TRIES = 8  # of single ranges; each quantises the model again


@dataclasses.dataclass(frozen=True)
class Int8Model:
    """A form of the generator in int8, how its ranges were set, its weighted nodes in float, its PSNR in dB to the float one."""

    form: str
    model: onnx.ModelProto
    ranges: str
    kept_float: tuple[str, ...]
    psnr_db: float


def int8_models(
    graphs: Mapping[str, onnx.ModelProto], samples: list[dict[str, np.ndarray]], learned: Sequence[LearnedRange] = ()
) -> list[Int8Model]:
    """Return the int8 forms of a float32 generator that are worth timing.

    `graphs` are exact forms of it by label. Each comes with all weighted nodes in int8 but transposed convolutions; with the last
    and the first of them in float too where the picture gains 1 dB by it; and one without transposed convolutions also with every
    operation in int8 that has a kernel, and with signed activations. `learned` are ranges from quantisation-aware training: one
    more way to set them. Raises ExportError when nothing of the generator runs in int8.
    """
    made = [form for label, graph in graphs.items() for form in _forms(label, _Quantiser(graph, samples), learned)]
    if not made:
        name = next(iter(graphs.values())).graph.name
        raise ExportError(f"'{name}' has no convolution or matrix product that onnxruntime runs in int8", hint="use f32")
    return made


def _forms(label: str, quantiser: _Quantiser, learned: Sequence[LearnedRange]) -> list[Int8Model]:
    if not quantiser.nodes:
        return []
    options = quantiser.options(learned)
    judged = {way: quantiser.judged(way, ranges) for way, ranges in options.items()}
    ranges = max(judged, key=lambda way: judged[way].psnr_db)
    best, bounds = judged[ranges], options[ranges]
    if best.psnr_db < ENOUGH_DB:
        known = [one.psnr_db for one in judged.values()]
        single = picture_driven_ranges([*options.values()], lambda tried: quantiser.judged("", tried).psnr_db, known, _MOST_TRIES)
        found = quantiser.judged("picture-driven", single)
        if found.psnr_db > best.psnr_db:
            best, bounds = found, single
    forms, kept = [best], ()
    for group in (quantiser.nodes[-1:], quantiser.nodes[:1]):
        if forms[-1].psnr_db < ENOUGH_DB and len(quantiser.nodes) > len(kept) + 1:
            fewer = quantiser.judged(best.ranges, bounds, kept=(*kept, *group))
            if fewer.psnr_db > forms[-1].psnr_db + WORTH_DB:
                forms, kept = [*forms, fewer], (*kept, *group)
    if not quantiser.transposed:
        forms.append(quantiser.judged(best.ranges, bounds, everything=True))
        forms.append(quantiser.judged(best.ranges, bounds, signed=True))
    return [dataclasses.replace(form, form=", ".join(filter(None, (label, form.form)))) for form in forms]


class _Quantiser:
    """onnxruntime's static quantiser on one graph, with what its results are judged by."""

    def __init__(self, graph: onnx.ModelProto, samples: list[dict[str, np.ndarray]]) -> None:
        values = constants(graph)
        weighted = [n for n in graph.graph.node if n.op_type in WEIGHTED and n.input[1] in values]
        self._graph, self._samples = graph, samples
        self.transposed = tuple(n.name for n in weighted if n.op_type == _TRANSPOSED)
        last = heads(graph)
        inner = [n.name for n in weighted if n.op_type != _TRANSPOSED]
        self.nodes = [name for name in inner if name not in last] + [name for name in inner if name in last]
        self._judges = samples[:: -(-len(samples) // _JUDGES)]
        self._references = outputs(graph, self._judges)

    def options(self, learned: Sequence[LearnedRange]) -> dict[str, dict[str, Range]]:
        """Return the range of every tensor by the name of the estimator."""
        ends = extremes(self._graph, self._samples)
        seen = signed_histograms(self._graph, ends, self._samples)
        ways = {way.value: ends | {name: estimate_range(one, way) for name, one in seen.items()} for way in Estimator}
        if learned:
            ways["learned"] = ends | learned_ranges(self._graph, self.nodes, learned)
        return {way: _clipped(self._graph, ranges) for way, ranges in ways.items()}

    def judged(
        self,
        way: str,
        ranges: Mapping[str, Range],
        *,
        kept: tuple[str, ...] = (),
        everything: bool = False,
        signed: bool = False,
    ) -> Int8Model:
        """Return the model with `kept` and transposed convolutions in float; only weighted nodes in int8, or `everything`."""
        model = self._quantised(ranges, kept, everything=everything, signed=signed)
        floats = (*self.transposed, *kept)
        form = f"{len(floats)} float" if floats else "all operations" if everything else "signed" if signed else ""
        level = psnr_db(outputs(model, self._judges), self._references)
        return Int8Model(form, model, way, floats, round(level, 2))

    def _quantised(
        self, ranges: Mapping[str, Range], kept: tuple[str, ...], *, everything: bool, signed: bool
    ) -> onnx.ModelProto:
        import numpy as np
        import onnx
        from onnxruntime.quantization import QuantType, quantize_static

        ends = {name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in ranges.items()}
        source = onnx.ModelProto()
        source.CopyFrom(self._graph)
        with tempfile.TemporaryDirectory() as folder, muted():
            path = Path(folder) / "int8.onnx"
            quantize_static(
                source, str(path), _one_sample(self._samples[0]), per_channel=True,
                activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
                op_types_to_quantize=None if everything else list(WEIGHTED), nodes_to_exclude=[*self.transposed, *kept],
                extra_options={"TensorQuantOverrides": ends},
            )  # fmt: skip
            made = onnx.load(str(path))
        made.ir_version, made.producer_name = IR_VERSION, "edgegen"
        return made


def _clipped(graph: onnx.ModelProto, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Return `ranges` with that of a ReLU's result for its argument that nothing else reads: int8 cuts off as the ReLU does."""
    read_by, found = readers(graph), dict(ranges)
    for node in graph.graph.node:
        if node.op_type in _CUTTING and len(read_by[node.input[0]]) == 1:
            found[node.input[0]] = found[node.output[0]]
    return found


def _one_sample(sample: dict[str, np.ndarray]) -> CalibrationDataReader:
    """Return what the quantiser takes its own ranges from; all of them are overridden."""
    from onnxruntime.quantization import CalibrationDataReader

    class OneSample(CalibrationDataReader):
        left = (sample,)

        def get_next(self) -> dict[str, np.ndarray] | None:
            (given, *_), self.left = self.left or (None,), ()
            return given

    return OneSample()
