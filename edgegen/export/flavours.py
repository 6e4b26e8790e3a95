"""Will the engine of an op table take this very file? Asked of the operations of a finished .tflite, not of the generator.

A GPU delegate, Vela or edgetpu_compiler runs what is on its list; at an operation that is not, the picture goes back to the CPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgegen.errors import ExportError
from edgegen.op_table import OpTable, load_op_table
from edgegen.spec import Backend, Precision

if TYPE_CHECKING:
    from edgegen.artifact import Artifact

FLAVOURS = {  # the engines that a file of each precision is a candidate for
    Precision.F32: ("litert-gpu",),
    Precision.F16: ("litert-gpu",),
    Precision.INT8_FULL: ("edge-tpu", "ethos-u65"),
}


def refused_by(content: bytes, precision: Precision) -> dict[str, list[str]]:
    """Return, per engine that a .tflite in `precision` is a candidate for, why it would not take the file; [] if it would."""
    return {name: refusals(content, load_op_table(name)) for name in FLAVOURS.get(precision, ())}


def refusals(content: bytes, table: OpTable) -> list[str]:
    """Return a sentence for each kind of operation of a .tflite that the engine of `table` refuses."""
    from edgegen.export.litert_graph import read_operations

    found: dict[str, None] = {}
    for operation in read_operations(content):
        if operation.kind not in table.file_operations:
            found[f"{operation.kind} is not on its list"] = None
        if table.most_axes is not None and operation.axes > table.most_axes:
            found[f"{operation.kind} works on {operation.axes} axes, it takes {table.most_axes}"] = None
    return list(found)


def require_taken(artifacts: Iterable[Artifact], tables: Iterable[OpTable]) -> None:
    """Raise ExportError for the first .tflite that the engine of one of the target's tables would not take whole."""
    for table in tables:
        if table.backend is not Backend.LITERT or not table.file_operations:
            continue
        for artifact in (a for a in artifacts if not a.lost):
            why = refusals((artifact.folder / artifact.entry.entry).read_bytes(), table)
            if why:
                raise ExportError(
                    f"{artifact.name} is not taken by {table.title}: {'; '.join(why)}",
                    hint="`edgegen preflight` names the layers that these come from",
                )
