"""Plain types that every room uses: what a generator takes and gives, back ends, precisions, budgets.

No torch, no numpy: importing this costs nothing.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import re

from edgegen.errors import RecipeError
from edgegen.runtime.tensors import ComponentSpec, Kind, Layout, TensorSpec

__all__ = [
    "Backend", "Budget", "ComponentSpec", "Kind", "Layout", "Precision", "TensorSpec", "Verdict",
    "parse_bytes", "parse_resolution", "parse_seconds",
]  # fmt: skip


class Backend(str, enum.Enum):
    """A run-time that executes artifacts."""

    OPENVINO = "openvino"
    LITERT = "litert"
    TENSORRT = "tensorrt"
    ONNXRUNTIME = "onnxruntime"


class Precision(str, enum.Enum):
    """How an artifact computes. Every member is a candidate of the gate for the back ends that offer it."""

    F32 = "f32"
    F16 = "f16"
    INT8 = "int8"
    INT8_DYNAMIC = "int8-dynamic"
    INT8_FULL = "int8-full"


class Verdict(str, enum.Enum):
    """How a run ended."""

    MET = "met"
    MET_WITH_WARNINGS = "met-with-warnings"
    QUALITY_MISSED = "quality-missed"
    BUDGET_MISSED = "budget-missed"


@dataclasses.dataclass(frozen=True)
class Budget:
    """What the artifact may cost and how good it must look. None means: no limit was asked for."""

    latency_s: float | None = None
    size_bytes: int | None = None
    memory_bytes: int | None = None
    min_ssim: float | None = None


def parse_seconds(text: str) -> float:
    """Read "33ms", "0.5s" or "900us" as seconds. Raises RecipeError for anything else, zero and negatives included."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(us|ms|s)\s*", text)
    scale = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
    seconds = float(match.group(1)) * scale[match.group(2)] if match else 0.0
    if not seconds > 0 or not math.isfinite(seconds):
        raise RecipeError(f"'{text}' is not a duration", hint="write a number and a unit: 33ms, 0.5s, 900us")
    return seconds


def parse_bytes(text: str) -> int:
    """Read "4MiB", "512KiB", "1GiB" or "300000B" as bytes. Raises RecipeError for anything else (MB is ambiguous: refused)."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(B|KiB|MiB|GiB)\s*", text)
    scale = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
    count = int(float(match.group(1)) * scale[match.group(2)]) if match else 0
    if count <= 0:
        raise RecipeError(f"'{text}' is not a size", hint="write a number and a unit: 4MiB, 512KiB, 1GiB")
    return count


def parse_resolution(text: str) -> tuple[int, int]:
    """Read "256x192" (width x height) as (height, width) = (192, 256); "256" is square. Raises RecipeError otherwise."""
    match = re.fullmatch(r"\s*(\d{1,5})(?:x(\d{1,5}))?\s*", text)
    if not match or int(match.group(1)) < 1 or (match.group(2) and int(match.group(2)) < 1):
        raise RecipeError(f"'{text}' is not a resolution", hint="write WIDTHxHEIGHT in pixels, as in 256x256")
    width = int(match.group(1))
    return (int(match.group(2) or width), width)
