"""The strict reader: what it accepts, and that everything else ends in one sentence that names the file and the key."""

from __future__ import annotations

import dataclasses
import enum
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.errors import RecipeError
from edgegen.strict_toml import matching, read_toml, within


class Colour(str, enum.Enum):
    RED = "red"
    GREEN = "green"


@dataclasses.dataclass(frozen=True)
class Inner:
    count: int = within(1, low=1, high=64, multiple=1)
    side: int = within(8, low=0, multiple=4)


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str = matching(r"[a-z-]+")
    ratio: float = 1.0
    on: bool = False
    colour: Colour = Colour.RED
    tags: tuple[str, ...] = matching(r"[a-z]+", ())
    span: tuple[float, float] = (0.0, 1.0)
    limit: float | None = None
    inner: Inner = Inner()
    inners: tuple[Inner, ...] = ()
    rewrites: Mapping[str, bool] = dataclasses.field(default_factory=dict)


def read(folder: Path, text: str | bytes) -> Outer:
    path = folder / "file.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_toml(path, Outer, schema="test/1", error=RecipeError)


def refusal(folder: Path, text: str | bytes) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        read(folder, text)
    assert "file.toml" in caught.value.message
    return caught.value


HEAD = 'schema = "test/1"\nname = "a"\n'


def test_every_kind_of_value_is_read(tmp_path: Path) -> None:
    text = HEAD + (
        'ratio = 2\non = true\ncolour = "green"\ntags = ["x", "y"]\nspan = [1, 2.5]\nlimit = 3.5\n'
        "[inner]\ncount = 3\n[[inners]]\ncount = 4\n[[inners]]\nside = 12\n[rewrites]\npixels = true\n"
    )
    value = read(tmp_path, text)
    assert value == Outer(
        "a", 2.0, True, Colour.GREEN, ("x", "y"), (1.0, 2.5), 3.5, Inner(3), (Inner(4), Inner(1, 12)), {"pixels": True}
    )  # fmt: skip
    assert isinstance(value.ratio, float)


def test_an_unknown_key_names_the_nearest_key(tmp_path: Path) -> None:
    error = refusal(tmp_path, HEAD + "[inner]\ncuont = 3\n")
    assert "inner.cuont is not a key" in error.message
    assert "did you mean 'count'?" in error.hint


@pytest.mark.parametrize(
    ("text", "fact", "hint"),
    [
        ("ratio = true", "ratio is a boolean", "a number"),
        ('ratio = "2"', "ratio is text", "a number"),
        ("ratio = nan", "ratio is nan", "finite"),
        ("ratio = inf", "ratio is inf", "finite"),
        ("on = 1", "on is a whole number", "true or false"),
        ("tags = 'x'", "tags is text", "a list"),
        ("tags = ['x', 3]", "tags[1] is a whole number", "text"),
        ("tags = ['x', 'Y']", "tags[1] is 'Y'", "[a-z]+"),
        ("span = [1]", "span has 1 values", "write 2"),
        ("limit = 2020-01-01", "limit is a date or time", "a number"),
        ("colour = 'blue'", "colour is 'blue'", "one of red, green"),
        ("colour = 3", "colour is a whole number", "red, green"),
        ("inner = 3", "inner is a whole number", "a table"),
        ("[inner]\ncount = 0", "inner.count is 0", "from 1 to 64"),
        ("[inner]\ncount = 2.0", "inner.count is a number", "a whole number"),
        ("[inner]\nside = 6", "inner.side is 6", "a multiple of 4"),
        ("[[inners]]\n[[inners]]\nside = -4", "inners[1].side is -4", "at least 0"),
        ("[rewrites]\n'a b' = true", "rewrites has the key 'a b'", "letters"),
    ],
)  # fmt: skip
def test_a_wrong_value_names_key_and_way_out(tmp_path: Path, text: str, fact: str, hint: str) -> None:
    error = refusal(tmp_path, HEAD + text + "\n")
    assert fact in error.message
    assert hint in error.hint


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    assert "name is missing" in refusal(tmp_path, 'schema = "test/1"\n').message


def test_a_missing_or_other_schema_is_refused(tmp_path: Path) -> None:
    assert "has no 'schema'" in refusal(tmp_path, 'name = "a"\n').message
    assert "has schema 'test/2'" in refusal(tmp_path, 'schema = "test/2"\nname = "a"\n').message


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (HEAD + "#" * 70_000, "larger than 64 KiB"),
        (HEAD + "tags = [" + "'x'," * 200 + "]", "line 3 is longer than 500 characters"),
        (HEAD + "tags = " + "[\n" * 20_000, "nested"),
        (HEAD + "tags = " + "[" * 12 + "]" * 12, "nested more than 8 levels"),
        (HEAD + "a.b.c.d.e.f.g.h.i.j = 1", "nested more than 8 levels"),
        (HEAD + "name = 'b'", "not valid TOML"),
        (HEAD + "ratio = ", "not valid TOML"),
        (b"\xff\xfe", "not UTF-8"),
    ],
    ids=["too large", "long line", "deep beyond the parser", "deep", "dotted deep", "duplicate key", "broken", "bytes"],
)
def test_a_file_beyond_the_limits_or_broken_is_refused(tmp_path: Path, text: str | bytes, fact: str) -> None:
    assert fact in refusal(tmp_path, text).message


def test_a_missing_file_a_folder_and_a_pipe_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    for name, fact in (("none.toml", "is missing"), (".", "not a regular file"), ("pipe.toml", "not a regular file")):
        with pytest.raises(RecipeError, match=fact):
            read_toml(tmp_path / name, Outer, schema="test/1", error=RecipeError)


def test_a_key_cannot_steer_the_terminal(tmp_path: Path) -> None:
    assert "\x1b" not in refusal(tmp_path, HEAD + '"\\u001b[2J" = 1\n').message


_SCALARS = st.one_of(st.booleans(), st.integers(-5, 100), st.floats(), st.text(max_size=5))
_KEYS = st.sampled_from([*(f.name for f in dataclasses.fields(Outer)), "nmae", "x"])


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08X}" if not 0xD800 <= ord(c) <= 0xDFFF else "?" for c in value) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return repr(value)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        _KEYS, st.recursive(_SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(_KEYS, v, max_size=3), max_leaves=6)
    )
)
def test_any_table_is_either_read_exactly_or_refused_with_the_file_named(
    tmp_path_factory: pytest.TempPathFactory, table: dict
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(
        'schema = "test/1"\n' + "".join(f"{key} = {_toml(value)}\n" for key, value in table.items()), encoding="utf-8"
    )
    try:
        value = read_toml(path, Outer, schema="test/1", error=RecipeError)
    except RecipeError as error:
        assert "any.toml" in error.message
        return
    assert {key: type(getattr(value, key)) for key in ("name", "ratio", "on", "colour")} == {
        "name": str, "ratio": float, "on": bool, "colour": Colour,
    }  # fmt: skip
    assert value.name == table["name"]
    assert value.inner.side % 4 == 0


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_and_never_crash_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError):
        read_toml(path, Outer, schema="test/1", error=RecipeError)
