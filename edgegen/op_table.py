"""Op tables: what a back end does with each operation of the vocabulary, in which precision, and how sure that is.

Strict TOML in `ops/`, one file per back end and version; `ops/README.md` documents the keys. No torch: `edgegen preflight`
reads a table before anything heavy is loaded. The first row that fits a node decides, so the narrow rows stand first.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgegen.errors import TargetError, nearest
from edgegen.resources import looks_like_path, resource_names, resource_path
from edgegen.spec import Backend, Precision
from edgegen.strict_toml import matching, read_toml, within
from edgegen.target_schema import Evidence, Source

SCHEMA = "edgegen.op/1"

OPS = (
    "Conv2d", "ConvTranspose2d", "Linear", "BatchNorm1d", "BatchNorm2d", "InstanceNorm2d",
    "PReLU", "ReLU", "ReLU6", "LeakyReLU", "ELU", "SiLU", "GELU", "Tanh", "Sigmoid", "Softplus", "Hardtanh", "Clamp", "Scale",
    "PixelShuffle", "PixelUnshuffle", "DepthToSpace", "ReflectionPad2d", "ReplicationPad2d", "ZeroPad2d", "ConstantPad2d",
    "Upsample", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "Crop2d", "Reshape", "Flatten", "Identity",
    "PixelsIn", "PixelsOut", "add", "sub", "mul", "truediv", "neg", "cat", "getitem", "permute", "unsqueeze",
)  # fmt: skip
"""The operations that rows are about: the layers of `edgegen.graph`, and of its functions and methods those that no layer is."""

SAME_AS = {
    "torch.add": "add", "torch.mul": "mul", "torch.cat": "cat", "torch.tanh": "Tanh", "tanh": "Tanh", "torch.sigmoid": "Sigmoid",
    "sigmoid": "Sigmoid", "torch.relu": "ReLU", "relu": "ReLU", "leaky_relu": "LeakyReLU", "torch.clamp": "Clamp",
    "clamp": "Clamp", "torch.flatten": "Flatten", "flatten": "Flatten", "torch.reshape": "Reshape", "reshape": "Reshape",
    "view": "Reshape", "interpolate": "Upsample", "pad": "ConstantPad2d", "pixel_shuffle": "PixelShuffle",
    "contiguous": "Identity", "float": "Identity",
}  # fmt: skip
"""Functions and methods of the vocabulary that compute what a layer computes; padding is told apart by its mode."""

SHAPE_ONLY = ("size", "getattr", "floordiv")
"""Functions and methods that work on shapes: static once the input size is fixed, so they never reach a device."""

SETTINGS = (
    "kernel", "stride", "padding", "output_padding", "dilation", "groups", "group_channels", "depthwise", "padding_mode",
    "transposed_size", "factor", "repeats", "mode", "align_corners", "value", "low", "high", "slopes", "output", "divides",
    "parts", "constant", "after", "height", "width", "rank", "axis", "statistics",
)  # fmt: skip
"""What a condition may ask of a node; `edgegen.export.node_settings` reads them off."""


class Action(str, enum.Enum):
    """What happens to a node on its way to the device."""

    NATIVE = "native"
    REWRITTEN = "rewritten"
    FLOAT = "float island"
    REFUSED = "refused"
    UNKNOWN = "not known"


class Runtime(str, enum.Enum):
    """What can run on this machine and show that a row is true."""

    NONE = ""
    OPENVINO = "openvino"
    LITERT = "litert"
    ONNXRUNTIME = "onnxruntime"


Setting = str | float | int
"""One value of a node's setting."""


@dataclasses.dataclass(frozen=True)
class Condition:
    """Holds if any value of the node's `setting` is beyond a bound, or in or outside a list, or not a multiple.

    A node without that setting, or whose value is not known, does not fulfil the condition.
    """

    setting: str
    above: float | None = None
    below: float | None = None
    equals: tuple[str, ...] = ()
    other_than: tuple[str, ...] = ()
    no_multiple_of: int | None = None

    def holds(self, settings: Mapping[str, tuple[Setting, ...]]) -> bool:
        """Return whether a node with these settings fulfils the condition."""
        return any(self._holds(value) for value in settings.get(self.setting, ()))

    def _holds(self, value: Setting) -> bool:
        text = value if isinstance(value, str) else f"{value:g}"
        if self.equals:
            return text in self.equals
        if self.other_than:
            return text not in self.other_than
        if isinstance(value, str):
            return False
        if self.no_multiple_of is not None:
            return value % self.no_multiple_of != 0
        return (self.above is not None and value > self.above) or (self.below is not None and value < self.below)

    @property
    def asks_for(self) -> int:
        """How many kinds of test are written in it: must be one."""
        bounds = (self.above is not None or self.below is not None, bool(self.equals), bool(self.other_than))
        return sum(bounds) + (self.no_multiple_of is not None)


@dataclasses.dataclass(frozen=True)
class Row:
    """What happens to `ops` in `dtypes` (empty: in all) where every condition of `when` holds.

    `limit` is the limit of the back end in words; absent where there is none. `rewrite` is what edgegen puts in place.
    `confirmed_by` names the runtime in which a test of this repository sees the limit; empty where no runtime here can.
    """

    id: str = matching(r"[a-z0-9]+(-[a-z0-9]+)*")
    ops: tuple[str, ...] = ()
    dtypes: tuple[Precision, ...] = ()
    when: tuple[Condition, ...] = ()
    limit: str = matching(r".{0,200}", "")
    action: Action = Action.NATIVE
    rewrite: str = matching(r".{0,120}", "")
    reason: str = matching(r".{0,300}", "")
    evidence: Evidence = Evidence.UNVERIFIED
    source: str = matching(r"([a-z0-9]+(-[a-z0-9]+)*)?", "")
    confirmed_by: Runtime = Runtime.NONE

    def fits(self, op: str, precision: Precision, settings: Mapping[str, tuple[Setting, ...]]) -> bool:
        """Return whether the row is about this node in this precision."""
        asked = {precision, Precision.INT8} if precision is Precision.INT8_FULL else {precision}
        return op in self.ops and not asked.isdisjoint(self.dtypes or asked) and all(c.holds(settings) for c in self.when)


@dataclasses.dataclass(frozen=True)
class OpTable:
    """The rows of one back end and version. `extends` names a table whose rows follow, less those with an id of this one.

    `file_operations` are the operations of a .tflite that the engine takes (empty: not known), `most_axes` the most that a tensor
    there may have.
    """

    id: str = matching(r"[a-z0-9]+([.-][a-z0-9]+)*")
    title: str = matching(r".{1,160}")
    unit: str = matching(r".{1,80}")
    backend: Backend | None = None
    extends: str = ""
    notes: tuple[str, ...] = ()
    file_operations: tuple[str, ...] = matching(r"[A-Z0-9_]{1,40}", ())
    most_axes: int | None = within(None, low=1, high=8)
    rows: tuple[Row, ...] = ()
    sources: tuple[Source, ...] = ()

    def find(self, op: str, precision: Precision, settings: Mapping[str, tuple[Setting, ...]]) -> Row | None:
        """Return the first row that fits; None if the table does not know the operation."""
        return next((row for row in self.rows if row.fits(op, precision, settings)), None)

    def title_of(self, source: str) -> str:
        """Return the title of the source with that id; "" for none."""
        return next((s.title for s in self.sources if s.id == source), "")


def load_op_table(name: str) -> OpTable:
    """Return the table called `name`, or that of a path to a TOML file, with the rows of what it extends."""
    path = Path(name) if looks_like_path(name) else resource_path("ops", name, error=TargetError)
    return _joined(path, seen=())


def list_op_tables() -> list[OpTable]:
    """Return all built-in tables by id, complete."""
    return [load_op_table(name) for name in resource_names("ops")]


def read_op_table(path: Path) -> OpTable:
    """Read and check the table at `path` alone, without what it extends; TargetError names the key that breaks the schema."""
    table = read_toml(path, OpTable, schema=SCHEMA, error=TargetError)
    for fact, hint in _contradictions(table, path):
        raise TargetError(f"{path}: {fact}", hint=hint or "ops/README.md documents the schema")
    return table


def _joined(path: Path, seen: tuple[str, ...]) -> OpTable:
    table = read_op_table(path)
    if not table.extends:
        return table
    if table.extends in (table.id, *seen):
        raise TargetError(f"{path}: extends goes round in a circle", hint="a table may extend one that does not lead back to it")
    below = _joined(resource_path("ops", table.extends, error=TargetError), (*seen, table.id))
    own, known = {row.id for row in table.rows}, {source.id for source in table.sources}
    rows = (*table.rows, *(row for row in below.rows if row.id not in own))
    sources = (*table.sources, *(source for source in below.sources if source.id not in known))
    return dataclasses.replace(
        table, rows=rows, sources=sources, notes=(*table.notes, *below.notes),
        file_operations=table.file_operations or below.file_operations, most_axes=table.most_axes or below.most_axes,
    )  # fmt: skip


def _contradictions(table: OpTable, path: Path) -> Iterator[tuple[str, str]]:
    """Yield what the types alone cannot refuse, with a hint where there is a better one than the documentation."""
    if table.id != path.name.removesuffix(".toml"):
        yield f"id is '{table.id}' but the file is called '{path.name}'", ""
    if not table.rows and not table.extends:
        yield "rows: at least one is needed", ""
    for what, values in (("rows.id", [r.id for r in table.rows]), ("sources.id", [s.id for s in table.sources])):
        if len(set(values)) < len(values):
            yield f"{what}: a value appears twice", ""
    for row in table.rows:
        yield from _row_contradictions(row, {source.id for source in table.sources})


def _row_contradictions(row: Row, sources: set[str]) -> Iterator[tuple[str, str]]:
    where = f"row '{row.id}'"
    if not row.ops:
        yield f"{where}: ops names no operation", ""
    for op in row.ops:
        if op not in OPS:
            yield f"{where}: ops has '{op}', which is not an operation", nearest(op, OPS)
    for condition in row.when:
        if condition.setting not in SETTINGS:
            yield f"{where}: when.setting is '{condition.setting}'", nearest(condition.setting, SETTINGS)
        if condition.asks_for != 1:
            yield f"{where}: a condition needs one of above or below, equals, other_than, no_multiple_of", ""
    if row.action is Action.UNKNOWN:
        yield f"{where}: action 'not known' is what a missing row means", ""
    if (row.action is Action.REWRITTEN) != bool(row.rewrite):
        yield f"{where}: rewrite is needed where the action is 'rewritten', and only there", ""
    if (row.action is not Action.NATIVE or row.limit) and not row.reason:
        yield f"{where}: a limit needs a reason", ""
    if row.when and not row.limit and row.action is not Action.NATIVE:
        yield f"{where}: a row with conditions needs the limit in words", ""
    if row.source and row.source not in sources:
        yield f"{where}: source '{row.source}' is not one of sources", nearest(row.source, sorted(sources))
    if row.evidence is Evidence.SEEN and not row.source:
        yield f"{where}: evidence S needs a source", ""
    if (row.evidence is Evidence.MEASURED) != (row.confirmed_by is not Runtime.NONE):
        yield f"{where}: evidence M and confirmed_by go together", "M: a test of this repository sees it in that runtime"
