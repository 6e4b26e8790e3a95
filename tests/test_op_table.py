"""Op tables: every built-in one obeys the schema and knows the whole vocabulary, and bad ones are refused."""

from pathlib import Path

import pytest

from edgegen.errors import TargetError
from edgegen.op_table import OPS, SAME_AS, SHAPE_ONLY, Action, Condition, OpTable, Runtime, list_op_tables, load_op_table
from edgegen.resources import resource_names
from edgegen.spec import Precision
from edgegen.target import list_targets
from edgegen.target_schema import Evidence

TABLES = list_op_tables()
SMALL = """schema = "edgegen.op/1"
id = "small"
title = "A small table"
unit = "cpu"

[[rows]]
id = "narrow"
ops = ["Conv2d"]
dtypes = ["int8"]
when = [{ setting = "groups", above = 1 }, { setting = "group_channels", no_multiple_of = 4 }]
limit = "channels per group in fours"
action = "float island"
reason = "no kernel"
evidence = "S"
source = "paper"

[[rows]]
id = "all"
ops = ["Conv2d", "Tanh"]

[[sources]]
id = "paper"
title = "A paper"
"""


def small(folder: Path, *replacements: tuple[str, str]) -> Path:
    """Write SMALL with replacements and return its path."""
    text = SMALL
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "small.toml").write_text(text)
    return folder / "small.toml"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.id)
def test_a_built_in_table_knows_every_operation_in_every_precision(table: OpTable) -> None:
    for precision in Precision:
        assert [op for op in OPS if table.find(op, precision, {}) is None] == []


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.id)
def test_every_row_of_a_built_in_table_can_be_hit_and_says_how_sure_it_is(table: OpTable) -> None:
    for row in table.rows:
        assert (row.evidence is Evidence.MEASURED) == (row.confirmed_by is not Runtime.NONE), row.id
        assert row.action is not Action.REWRITTEN or row.rewrite, row.id
        assert row.source == "" or table.title_of(row.source), row.id


def test_there_is_a_table_for_every_back_end_and_accelerator_of_the_documentation() -> None:
    assert set(resource_names("ops")) == {
        "tensorrt-10.3", "tensorrt-10.16", "tensorrt-11.4", "dla", "litert-cpu", "litert-gpu", "edge-tpu", "ethos-u65", "vip",
        "openvino-cpu", "openvino-gpu", "openvino-npu", "onnxruntime",
    }  # fmt: skip


def test_the_operations_of_tables_are_those_of_the_vocabulary() -> None:
    from edgegen.graph import FUNCTIONS, LAYERS, METHODS

    layers = {layer.__name__ for layer in LAYERS}
    calls = {*FUNCTIONS, *METHODS} - set(SHAPE_ONLY)
    assert layers | {SAME_AS.get(name, name) for name in calls} == set(OPS)


def test_every_target_is_judged_by_tables_of_its_own_back_end() -> None:
    for target in list_targets():
        for support in target.backends:
            assert all(load_op_table(name).backend is support.id for name in support.op_tables), target.id
        assert target.backends[0].op_tables, target.id


def test_the_first_row_that_fits_decides(tmp_path: Path) -> None:
    table = load_op_table(str(small(tmp_path)))
    depthwise = {"groups": (16,), "group_channels": (1, 1)}
    found = [table.find("Conv2d", *asked) for asked in ((Precision.INT8, depthwise), (Precision.F16, depthwise))]
    assert [row.id for row in found if row] == ["narrow", "all"]
    assert table.find("Conv2d", Precision.INT8, {"groups": (4,), "group_channels": (8, 8)}) is table.rows[1]
    assert table.find("GELU", Precision.INT8, {}) is None


@pytest.mark.parametrize(
    ("condition", "values", "holds"),
    [
        (Condition("stride", above=3), (2, 4), True),
        (Condition("stride", above=3), (2, 3), False),
        (Condition("stride", below=2), (1,), True),
        (Condition("mode", equals=("nearest",)), ("nearest",), True),
        (Condition("factor", other_than=("2", "4")), (2.0, 2.0), False),
        (Condition("factor", other_than=("2", "4")), (2.0, 1.5), True),
        (Condition("padding", above=0), ("same",), False),
        (Condition("groups", no_multiple_of=4), (6,), True),
    ],
    ids=str,
)  # fmt: skip
def test_a_condition_holds_if_any_value_is_beyond_it(condition: Condition, values: tuple[float | str, ...], holds: bool) -> None:
    assert condition.holds({condition.setting: values}) is holds
    assert not condition.holds({})


def test_an_extended_table_replaces_rows_of_the_same_id_and_keeps_the_rest() -> None:
    below, above = load_op_table("tensorrt-10.3"), load_op_table("tensorrt-10.16")
    assert {row.id for row in below.rows} == {row.id for row in above.rows}
    changed = {new.id for new in above.rows for old in below.rows if new.id == old.id and new != old}
    assert changed == {"conv-transpose"}
    assert set(below.notes) < set(above.notes) < set(load_op_table("tensorrt-11.4").notes)


@pytest.mark.parametrize(
    ("old", "new", "fact", "hint"),
    [
        ('id = "small"', 'id = "smal"', "the file is called 'small.toml'", ""),
        ('title = "A small table"', 'titel = "x"', "titel is not a key", "'title'"),
        ('ops = ["Conv2d"]', 'ops = ["Conv2"]', "'Conv2', which is not an operation", "'Conv2d'"),
        ('dtypes = ["int8"]', 'dtypes = ["int9"]', "rows[0].dtypes[0] is 'int9'", "int8"),
        ('setting = "groups"', 'setting = "group"', "when.setting is 'group'", "'groups'"),
        ("above = 1", "abov = 1", "rows[0].when[0].abov is not a key", "'above'"),
        ("above = 1", "above = 1, equals = ['2']", "a condition needs one of", ""),
        (", above = 1", "", "a condition needs one of", ""),
        ('action = "float island"', 'action = "float"', "rows[0].action is 'float'", "float island"),
        ('action = "float island"', 'action = "not known"', "what a missing row means", ""),
        ('action = "float island"', 'action = "rewritten"', "rewrite is needed", ""),
        ('reason = "no kernel"\n', "", "a limit needs a reason", ""),
        ('limit = "channels per group in fours"\n', "", "needs the limit in words", ""),
        ('source = "paper"', 'source = "papr"', "source 'papr' is not one of sources", "'paper'"),
        ('source = "paper"\n', "", "evidence S needs a source", ""),
        ('evidence = "S"', 'evidence = "M"', "evidence M and confirmed_by go together", ""),
        ('id = "all"', 'id = "narrow"', "rows.id: a value appears twice", ""),
        ('unit = "cpu"', 'unit = "cpu"\nextends = "tensorrt"', "op 'tensorrt' is unknown", "'tensorrt-10.3'"),
        ('unit = "cpu"', 'unit = "cpu"\nextends = "small"', "extends goes round in a circle", ""),
    ],
)  # fmt: skip
def test_a_table_that_breaks_the_schema_is_refused(tmp_path: Path, old: str, new: str, fact: str, hint: str) -> None:
    with pytest.raises(TargetError) as caught:
        load_op_table(str(small(tmp_path, (old, new))))
    assert fact in caught.value.message
    assert hint in caught.value.hint and caught.value.hint


def test_an_unknown_table_names_the_nearest() -> None:
    with pytest.raises(TargetError) as caught:
        load_op_table("ethos-u56")
    assert "'ethos-u65'" in caught.value.hint
