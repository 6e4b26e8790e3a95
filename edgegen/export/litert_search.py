"""Choose the ranges of LiteRT's static int8 by what the pictures of the calibration inputs lose."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgegen.export.onnx_ranges import psnr_db
from edgegen.ranges import (
    ENOUGH_DB,
    WORTH_A_RANGE_DB,
    Estimator,
    Histogram,
    Range,
    estimate_range,
    histogram,
    merged,
    picture_driven,
)

_PICTURE_DRIVEN = "picture-driven"
_JUDGES = 4

Samples = Sequence[dict[str, np.ndarray]]
Qsvs = Mapping[str, Any]
"""{tensor: {"min", "max", ...}}: what ai-edge-quantizer's calibration finds and its quantiser takes."""


@dataclasses.dataclass(frozen=True)
class RangeChoice:
    """The quantised file that was chosen, how its ranges were found, its PSNR in dB to the float file, and all that was tried.

    `estimator` is the one that served best for all tensors; `ranges` is that, or "picture-driven" where changing single ranges
    of it served better still.
    """

    content: bytes
    ranges: str
    estimator: Estimator
    psnr_db: float
    tried: Mapping[str, float]


def choose_ranges(
    model: bytes, seen: Qsvs, samples: Samples, quantised: Callable[[Qsvs], bytes], *, signature: str, most_tries: int
) -> RangeChoice:
    """Return the best static int8 form of the float .tflite `model`, judged on up to four of the calibration `samples`.

    `seen` are the extremes of every tensor, `quantised` makes a file of ranges. Each estimator sets all ranges once; where the
    best is below 45 dB, `most_tries` single ranges are changed, and those kept that the pictures gain by. Equal inputs give
    an equal choice.
    """
    judges = samples[:: -(-len(samples) // _JUDGES)]
    wanted = outputs_of(model, judges, signature)
    found = _histograms(model, seen, samples, signature)
    ways = {way.value: {name: estimate_range(one, way) for name, one in found.items()} for way in Estimator}
    tried: dict[str, float] = {}
    best: list[RangeChoice] = []

    def judge(label: str, ranges: Mapping[str, Range]) -> float:
        content = quantised(_with_ranges(seen, ranges))
        level = round(psnr_db(outputs_of(content, judges, signature), wanted), 2)
        tried[label] = max(level, tried.get(label, level))
        if not best or level > best[0].psnr_db:
            estimator = best[0].estimator if label == _PICTURE_DRIVEN else Estimator(label)
            best[:] = [RangeChoice(content, label, estimator, level, tried)]
        return level

    levels = {name: judge(name, ranges) for name, ranges in ways.items()}
    if best[0].psnr_db < ENOUGH_DB and most_tries:
        picture_driven(
            list(ways.values()),
            lambda ranges: judge(_PICTURE_DRIVEN, ranges),
            most_tries=len(ways) + most_tries,
            worth=WORTH_A_RANGE_DB,
            known=list(levels.values()),
        )
    return best[0]


def outputs_of(content: bytes, samples: Samples, signature: str) -> list[list[np.ndarray]]:
    """Return what a .tflite gives for each sample, outputs by name; int8 at its ends is converted from and to floats."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=content, num_threads=1).get_signature_runner(signature)
    taken, given = runner.get_input_details(), runner.get_output_details()
    results = [runner(**{name: _as(taken[name], array) for name, array in sample.items()}) for sample in samples]
    return [[_widened(given[name], result[name]) for name in sorted(given)] for result in results]


def _as(port: Mapping[str, Any], array: np.ndarray) -> np.ndarray:
    if np.dtype(port["dtype"]) != np.int8 or array.dtype == np.int8:
        return array
    scale, zero = port["quantization"]
    return np.clip(np.rint(array / scale) + zero, -128, 127).astype(np.int8)


def _widened(port: Mapping[str, Any], array: np.ndarray) -> np.ndarray:
    if array.dtype != np.int8:
        return array
    scale, zero = port["quantization"]
    return (array.astype(np.float32) - zero) * np.float32(scale)


def _histograms(model: bytes, seen: Qsvs, samples: Samples, signature: str) -> dict[str, Histogram]:
    """Return how the values of every tensor of `seen` spread over all samples; those that hold one value only are left out."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1, experimental_preserve_all_tensors=True)
    runner = interpreter.get_signature_runner(signature)
    numbers = {tensor["name"]: tensor["index"] for tensor in interpreter.get_tensor_details() if tensor["name"] in seen}
    found: dict[str, Histogram] = {}
    for sample in samples:
        runner(**sample)
        for name, number in numbers.items():
            low, high = float(seen[name]["min"].item()), float(seen[name]["max"].item())
            if low < high:
                one = histogram(interpreter.get_tensor(number), low, high)
                found[name] = merged([found[name], one]) if name in found else one
    return found


def _with_ranges(seen: Qsvs, ranges: Mapping[str, Range]) -> dict[str, Any]:
    made = dict(seen)
    for name, (low, high) in ranges.items():
        before = made[name]
        made[name] = {**before, "min": np.full_like(before["min"], low), "max": np.full_like(before["max"], high)}
    return made
