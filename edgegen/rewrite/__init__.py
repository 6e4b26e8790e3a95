"""Graph rewrites: each in its own file with its proof (exact) or its recovery (approximate, made good by distillation)."""

from __future__ import annotations

import time
from collections.abc import Mapping

from edgegen.generator import Generator, StageRecord
from edgegen.graph import count_macs, count_params, example_inputs, node_shapes
from edgegen.recipe import Choice, RewriteConfig
from edgegen.rewrite.batch_norm import fold_batch_norm
from edgegen.rewrite.conv_transpose import replace_conv_transpose
from edgegen.rewrite.pixels import takes_and_gives_pixels
from edgegen.rewrite.space_to_depth import move_to_half_resolution
from edgegen.spec import Backend

__all__ = ["lower", "lower_conv_transpose", "lower_for_int8", "rewrite", "takes_and_gives_pixels"]


def rewrite(generator: Generator, config: RewriteConfig, *, pays: Mapping[str, bool], approximate: bool) -> Generator:
    """Return a copy with the rewrites that precede pruning: BatchNorm folded, ends at half resolution where that pays.

    `pays` is the target's opinion for choices left on auto. `approximate` allows moves that distillation must recover; without
    it only those that give the same pictures are applied.
    """
    started = time.perf_counter()
    made = generator.copy()
    folded = fold_batch_norm(made.module)
    moved: list[str] = []
    if _wanted(config.space_to_depth, pays.get("space_to_depth", False)):
        shapes = node_shapes(made.module, example_inputs(made.spec))
        moved = move_to_half_resolution(made.module, shapes, approximate=approximate)
    facts = {
        "batch_norms_folded": folded,
        "half_resolution": moved,
        "macs": count_macs(made.module, made.spec),
        "params": count_params(made.module),
    }
    settings = {"space_to_depth": config.space_to_depth.value, "approximate": approximate}
    return made.with_record(StageRecord("rewrite", settings, time.perf_counter() - started, facts))


def lower(generator: Generator, backend: Backend) -> Generator:
    """Return a copy in the form that `backend` needs: all of it exact up to float rounding."""
    match backend:
        case Backend.LITERT:
            from edgegen.rewrite.litert import lower_for_litert

            return lower_for_litert(generator)
        case Backend.TENSORRT:
            from edgegen.rewrite.tensorrt import lower_for_tensorrt

            return lower_for_tensorrt(lower_conv_transpose(generator))
        case Backend.OPENVINO | Backend.ONNXRUNTIME:
            return generator.copy()


def lower_for_int8(generator: Generator, backend: Backend) -> Generator:
    """Return what `lower` does, and for onnxruntime without transposed convolutions: it has no int8 kernel for them."""
    lowered = lower(generator, backend)
    return lower_conv_transpose(lowered) if backend is Backend.ONNXRUNTIME else lowered


def lower_conv_transpose(generator: Generator) -> Generator:
    """Return a copy with every ConvTranspose2d as convolution + depth-to-space, or linear layer on 1x1 inputs. Exact."""
    made = generator.copy()
    replace_conv_transpose(made.module, node_shapes(made.module, example_inputs(made.spec)))
    return made


def _wanted(choice: Choice, auto: bool) -> bool:
    return auto if choice is Choice.AUTO else choice is Choice.YES
