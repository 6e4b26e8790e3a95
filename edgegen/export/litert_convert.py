"""torch to the float .tflite: the conversion call, its noise kept off the terminal, its failures given a node's name."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edgegen.errors import EdgegenError, ExportError, require
from edgegen.spec import Layout

if TYPE_CHECKING:
    from torch import fx, nn

    from edgegen.generator import Generator

_LOGGER = logging.getLogger(__name__)
_SHOW_PROGRESS = "LITERT_TORCH_SHOW_PROGRESS"  # the only switch that its progress lines have


def convert(generator: Generator, *, has_qdq: bool = False) -> bytes:
    """Return the float32 .tflite of a lowered generator: channels-last images, one signature "serving_default".

    Where it `has_qdq` (`litert_qdq`), what stands between Q and DQ computes in int8. Raises ExportError naming the node that has
    no TFLite counterpart.
    """
    from edgegen.graph import example_inputs

    spec = generator.spec
    images = [[i for i, t in enumerate(tensors) if t.layout is Layout.CHW] for tensors in (spec.inputs, spec.outputs)]
    inputs = tuple(x.permute(0, 2, 3, 1).contiguous() if i in images[0] else x for i, x in enumerate(example_inputs(spec)))
    with muted():
        litert_torch = require("litert_torch", extra="tflite")
        wrapped = litert_torch.to_channel_last_io(generator.module, args=images[0], outputs=images[1]).eval()
        try:
            # lightweight: 10 times faster and half the memory on 42 M parameters, the same operations come out. With Q/DQ on
            # large weights it fails: "'arith.constant' op failed to verify that all of {value, result} have same type"
            settings = {"quant_config": _static_qdq()} if has_qdq else {"lightweight_conversion": True}
            return bytes(litert_torch.convert(wrapped, inputs, **settings).model_content())
        except Exception as error:  # the converter raises whatever its passes raise: all of it means "not convertible"
            raise _conversion_error(generator, str(error)) from error


def _static_qdq() -> Any:
    """Return what makes the converter take Q/DQ for int8; its quantiser places no nodes here."""
    from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
    from litert_torch.quantize.quant_config import QuantConfig

    scheme = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False)
    return QuantConfig(pt2e_quantizer=PT2EQuantizer().set_global(scheme))


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Keep warnings, log lines, progress bars and what C++ writes to file descriptor 2 off the terminal.

    What was written there is logged at debug level when the block raises.
    """
    previous, disabled = os.environ.get(_SHOW_PROGRESS), logging.root.manager.disable
    os.environ[_SHOW_PROGRESS] = "n"
    logging.disable(logging.ERROR)
    noise = b""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), tempfile.TemporaryFile() as sink:
            warnings.simplefilter("ignore")
            with _descriptor_2_into(sink.fileno()):
                try:
                    yield
                except EdgegenError:
                    sink.seek(0)
                    noise = sink.read()
                    raise
    finally:
        logging.disable(disabled)
        if noise:
            _LOGGER.debug("%s", noise.decode(errors="replace"))
        os.environ.pop(_SHOW_PROGRESS)
        if previous is not None:
            os.environ[_SHOW_PROGRESS] = previous


@contextlib.contextmanager
def _descriptor_2_into(descriptor: int) -> Iterator[None]:
    """Make C++ code that writes to standard error write to `descriptor` instead."""
    saved = os.dup(2)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


# --- which node was it? -------------------------------------------------------------------------------------------


def _conversion_error(generator: Generator, message: str) -> ExportError:
    """Return an error that names the node. MLIR tells the source line that made the operation, and its result's shape."""
    nodes = suspects(generator, message)
    reason = re.search(r"error: (.*?)(?:: %|\n|$)", message)
    reason = reason.group(1) if reason else (message.strip().splitlines() or ["no reason given"])[0]
    named = (
        f"node '{node.target if node.op == 'call_module' else node.name}' ({_kind(generator.module, node)})" for node in nodes[:3]
    )
    where = " or ".join(named) or "a node it does not name"
    return ExportError(f"LiteRT cannot convert {where}: {reason}", hint="another back end may take it; or replace that layer")


def suspects(generator: Generator, message: str) -> list[fx.Node]:
    """Return the nodes that a converter message may be about, by the source line and the result shape that it names."""
    import torch

    from edgegen.graph import example_inputs, layer_of, node_shapes

    module = generator.module
    line = re.search(r"([^\s'\"]+\.py):(\d+)", message)
    made = [n for n in module.graph.nodes if line and _is_made_at(layer_of(module, n), line.group(1), int(line.group(2)))]
    shape = re.search(r"-> tensor<((?:\d+x)+)\w+>", message)
    if shape is None:
        return made
    wanted = sorted(int(n) for n in shape.group(1).split("x")[:-1])  # sorted: the converter has moved the channels
    with torch.no_grad():
        shapes = node_shapes(module, example_inputs(generator.spec))
    calls = [n for n in (made or module.graph.nodes) if n.op.startswith("call")]
    return [n for n in calls if sorted(shapes.get(n.name, ())) == wanted] or made


def _is_made_at(layer: nn.Module | None, file: str, line: int) -> bool:
    """Tell whether the class of `layer` spans line `line` of `file`."""
    if layer is None or inspect.getsourcefile(type(layer)) != file:
        return False
    source, first = inspect.getsourcelines(type(layer))
    return first <= line < first + len(source)


def _kind(module: fx.GraphModule, node: fx.Node) -> str:
    from edgegen.graph import layer_of

    layer = layer_of(module, node)
    return type(layer).__name__ if layer is not None else getattr(node.target, "__name__", str(node.target))
