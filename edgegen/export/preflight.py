"""What a target does with each node, told by the op tables of `ops/` before any long stage runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgegen.errors import ExportError
from edgegen.op_table import Action, OpTable, Row, load_op_table
from edgegen.spec import Backend, Precision

if TYPE_CHECKING:
    from edgegen.export.node_settings import NodeFacts
    from edgegen.generator import Generator
    from edgegen.target import TargetProfile

__all__ = [
    "Action",
    "Finding",
    "judge_nodes",
    "lowest_precision",
    "preflight",
    "preflight_all",
    "require_exportable",
    "tables_of",
]

_SEVERITY = (Action.NATIVE, Action.UNKNOWN, Action.REWRITTEN, Action.FLOAT, Action.REFUSED)
_NOT_LISTED = "the table has no row for it: nothing is known"
_USUAL = {  # for profiles that name no table
    Backend.OPENVINO: "openvino-cpu",
    Backend.LITERT: "litert-cpu",
    Backend.TENSORRT: "tensorrt-10.3",
    Backend.ONNXRUNTIME: "onnxruntime",
}
_FROM_LOW_TO_HIGH = (Precision.INT8_FULL, Precision.INT8, Precision.INT8_DYNAMIC, Precision.F16, Precision.F32)


@dataclasses.dataclass(frozen=True)
class Finding:
    """What happens to one node: its name, what it computes, the action, why, and where that is written.

    `rewrite` is what takes its place, `limit` the back end's limit in words, `row` and `table` say where to look it up.
    """

    node: str
    kind: str
    action: Action
    reason: str
    rewrite: str = ""
    limit: str = ""
    table: str = ""
    row: str = ""
    source: str = ""
    evidence: str = ""

    @property
    def simply_runs(self) -> bool:
        """Whether there is nothing to tell: native, and no limit."""
        return self.action is Action.NATIVE and not self.limit

    def to_json(self) -> dict[str, str]:
        """Return what is known, as text."""
        said = {"node": self.node, "kind": self.kind, "action": self.action.value, "reason": self.reason}
        more = {name: getattr(self, name) for name in ("rewrite", "limit", "table", "row", "source", "evidence")}
        return said | {name: value for name, value in more.items() if value}


def preflight(generator: Generator, target: TargetProfile, precision: Precision | None = None) -> list[Finding]:
    """Return what the best back end of `target` does with every node that does not simply run there, in graph order."""
    return [finding for finding in preflight_all(generator, target, precision) if not finding.simply_runs]


def preflight_all(
    generator: Generator, target: TargetProfile, precision: Precision | None = None, tables: Sequence[OpTable] = ()
) -> list[Finding]:
    """Return what happens to every node, in graph order, in `precision`: the lowest that the target offers if None.

    Of several tables the strictest verdict counts: one artifact serves all of them. `tables` replaces the target's own.
    """
    from edgegen.export.node_settings import node_facts

    asked = tuple(tables) or tables_of(target)
    return judge_nodes(node_facts(generator.module, generator.spec), precision or lowest_precision(target), asked)


def judge_nodes(nodes: Sequence[NodeFacts], precision: Precision, tables: Sequence[OpTable]) -> list[Finding]:
    """Return the strictest verdict of `tables` on every node."""
    found = []
    for node in nodes:
        told = [_finding(node, table, table.find(node.op, precision, node.settings)) for table in tables]
        found.append(max(told, key=lambda finding: (_SEVERITY.index(finding.action), bool(finding.limit))))
    return found


def tables_of(target: TargetProfile) -> tuple[OpTable, ...]:
    """Return the op tables that the artifact of the target's best back end must satisfy."""
    return tuple(load_op_table(name) for name in target.backends[0].op_tables or (_USUAL[target.backend],))


def lowest_precision(target: TargetProfile) -> Precision:
    """Return the precision of the target's best back end in which the fewest nodes simply run."""
    return next(precision for precision in _FROM_LOW_TO_HIGH if precision in target.precisions)


def require_exportable(generator: Generator, target: TargetProfile) -> None:
    """Raise ExportError naming the first node that the target's back end refuses in each of its precisions."""
    from edgegen.export.node_settings import node_facts

    nodes, tables = node_facts(generator.module, generator.spec), tables_of(target)
    told = [judge_nodes(nodes, precision, tables) for precision in target.precisions]
    for verdicts in zip(*told, strict=True):
        if all(finding.action is Action.REFUSED for finding in verdicts):
            raise refusal(verdicts[0], target.id)


def refusal(finding: Finding, target: str) -> ExportError:
    """Return the error that names a node which cannot run on `target`."""
    return ExportError(
        f"node '{finding.node}' ({finding.kind}) cannot run on {target}: {finding.reason}",
        hint="`edgegen inspect CKPT` shows which targets take it",
    )


def _finding(node: NodeFacts, table: OpTable, row: Row | None) -> Finding:
    if row is None:
        return Finding(node.node, node.op, Action.UNKNOWN, _NOT_LISTED, table=table.id)
    return Finding(
        node.node, node.op, row.action, row.reason, rewrite=row.rewrite, limit=row.limit, table=table.id, row=row.id,
        source=table.title_of(row.source), evidence=row.evidence.value,
    )  # fmt: skip
