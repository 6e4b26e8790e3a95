"""Read a small TOML file into frozen dataclasses and refuse everything that is not exactly right.

The dataclass is the schema: an unknown key, a missing key, a wrong type, a number out of range or an unknown word ends with
one sentence that names the file and the key. Targets, recipes and calibration files are read by this and nothing else.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import math
import re
import sys
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from edgegen.errors import EdgegenError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

_MAX_BYTES = 64 * 1024
# Whole strings and comments, so that brackets in them do not count.
_TOKENS = re.compile(r'"""[\s\S]*?"""|\'\'\'[\s\S]*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*|[\[\]{}]')
_MAX_DEPTH = 8
_MAX_LINE = 500  # bounds the parts of a dotted key, on which TOML parsers spend quadratic time


def within(default: Any = dataclasses.MISSING, *, low: float | None = None, high: float | None = None, multiple: int = 1) -> Any:
    """Return a dataclass field whose number must lie in [low, high] and, for integers, be a multiple of `multiple`."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "multiple": multiple})


def required() -> Any:
    """Return a dataclass field that has no default and must be written, wherever it stands among fields that have one."""
    return dataclasses.field()


def matching(pattern: str, default: Any = dataclasses.MISSING) -> Any:
    """Return a dataclass field whose text, or every text of a list, must match the whole of `pattern`."""
    return dataclasses.field(default=default, metadata={"pattern": pattern})


def read_toml(path: Path, cls: type[T], *, schema: str, error: type[EdgegenError]) -> T:
    """Return the `cls` that the file at `path` holds; its top-level key `schema` must be equal to `schema`.

    Raises `error` for a missing or unreadable file, one above 64 KiB or 8 levels, and for everything `cls` does not allow.
    """
    table = _parse(path, error)
    found = table.pop("schema", None)
    if found != schema:
        fact = "has no 'schema'" if found is None else f"has schema {found!r}"
        raise error(f"{path}: {fact}", hint=f"write schema = {schema!r} at the top")
    return build(cls, table, where=str(path), error=error)


def build(cls: type[T], table: dict[str, Any], *, where: str, error: type[EdgegenError], prefix: str = "") -> T:
    """Return `cls(**table)` with every value checked against the types of its fields; `prefix` is put before key names."""
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            shown = key if key.isprintable() else repr(key)  # a file must not be able to steer the terminal
            raise error(f"{where}: {prefix}{shown} is not a key", hint=nearest(key, tuple(fields)))
    types_of = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _Reader(where, prefix + name, error, field.metadata).value(types_of[name], table[name])
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise error(f"{where}: {prefix}{name} is missing", hint=f"{prefix}{name} has no default and must be written")
    return cls(**values)


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Checks one value; `key` is its full dotted name."""

    where: str
    key: str
    error: type[EdgegenError]
    metadata: typing.Mapping[str, Any]

    def value(self, kind: Any, raw: Any) -> Any:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            return self.value(next(a for a in arguments if a is not type(None)), raw)
        if origin is tuple:
            return self._tuple(arguments, raw)
        if origin in (dict, collections.abc.Mapping):
            return self._mapping(arguments[1], self._expect(dict, raw, "a table"))
        if dataclasses.is_dataclass(kind):
            table = self._expect(dict, raw, "a table")
            return build(typing.cast(type, kind), table, where=self.where, error=self.error, prefix=self.key + ".")
        if issubclass(kind, enum.Enum):
            return self._word(kind, raw)
        return self._scalar(kind, raw)

    def _mapping(self, kind: Any, table: dict[str, Any]) -> dict[str, Any]:
        for key in table:
            if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", key):
                raise self._refuse(f"has the key {key!r}", "use letters, digits, '_', '.' and '-'")
        return {key: self._at(key).value(kind, raw) for key, raw in table.items()}

    def _tuple(self, arguments: tuple[Any, ...], raw: Any) -> tuple[Any, ...]:
        items = self._expect(list, raw, "a list")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(self._at(i).value(arguments[0], item) for i, item in enumerate(items))
        if len(items) != len(arguments):
            raise self._refuse(f"has {len(items)} values", f"write {len(arguments)}")
        return tuple(self._at(i).value(a, item) for i, (a, item) in enumerate(zip(arguments, items, strict=True)))

    def _word(self, kind: type[enum.Enum], raw: Any) -> enum.Enum:
        known = [str(member.value) for member in kind]
        wanted = "one of " + ", ".join(known)
        if self._expect(str, raw, wanted) not in known:
            raise self._refuse(f"is {raw!r}", f"it must be {wanted}")
        return kind(raw)

    def _scalar(self, kind: type, raw: Any) -> Any:
        if kind is float:
            if isinstance(raw, bool) or not isinstance(raw, (int, float)):
                raise self._wrong_type(raw, "a number")
            if not math.isfinite(raw):
                raise self._refuse(f"is {raw}", "write a finite number, or leave the key out if it is unknown")
            return self._number(float(raw))
        if kind is int:
            if isinstance(raw, bool):
                raise self._wrong_type(raw, "a whole number")
            return self._number(self._expect(int, raw, "a whole number"))
        if kind is bool:
            return self._expect(bool, raw, "true or false")
        text = self._expect(str, raw, "text")
        pattern = self.metadata.get("pattern")
        if pattern is not None and not re.fullmatch(pattern, text):
            raise self._refuse(f"is {text!r}", f"it must match {pattern}")
        return text

    def _number(self, value: Any) -> Any:
        low, high, multiple = (self.metadata.get(name) for name in ("low", "high", "multiple"))
        if (low is not None and value < low) or (high is not None and value > high):
            span = f"at least {low}" if high is None else f"at most {high}" if low is None else f"from {low} to {high}"
            raise self._refuse(f"is {value}", f"it must be {span}")
        if isinstance(value, int) and multiple and value % multiple:
            raise self._refuse(f"is {value}", f"it must be a multiple of {multiple}")
        return value

    def _expect(self, kind: type[T], raw: Any, wanted: str) -> T:
        if not isinstance(raw, kind):
            raise self._wrong_type(raw, wanted)
        return raw

    def _wrong_type(self, raw: Any, wanted: str) -> EdgegenError:
        return self._refuse(f"is {_kind_of(raw)}", f"it must be {wanted}")

    def _refuse(self, fact: str, hint: str) -> EdgegenError:
        return self.error(f"{self.where}: {self.key} {fact}", hint=hint)

    def _at(self, part: str | int) -> _Reader:
        key = f"{self.key}[{part}]" if isinstance(part, int) else f"{self.key}.{part}"
        return dataclasses.replace(self, key=key)


def _kind_of(raw: Any) -> str:
    names = {bool: "a boolean", int: "a whole number", float: "a number", str: "text", list: "a list", dict: "a table"}
    return names.get(type(raw), "a date or time")


def _parse(path: Path, error: type[EdgegenError]) -> dict[str, Any]:
    """Return the raw tables of the file, within the limits of size, line length and depth."""
    try:
        if not path.is_file():  # also refuses a named pipe, on which reading would wait for ever
            raise error(f"{path} is {'not a regular file' if path.exists() else 'missing'}")
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror}") from problem
    if len(content) > _MAX_BYTES:
        raise error(f"{path} is larger than {_MAX_BYTES // 1024} KiB")
    try:
        text = content.decode()
    except UnicodeDecodeError as problem:
        raise error(f"{path} is not UTF-8 text (byte {problem.start})") from problem
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > _MAX_LINE:
            raise error(f"{path}: line {number} is longer than {_MAX_LINE} characters", hint="break it into several lines")
    if _brackets_nest_deeper(text, 2 * _MAX_DEPTH):  # before the recursive parser sees them; arrays of tables take two each
        raise error(f"{path} is nested more than {_MAX_DEPTH} levels deep")
    try:
        table = tomllib.loads(text)
    except ValueError as problem:  # TOMLDecodeError, and integers beyond Python's limit on digits
        raise error(f"{path} is not valid TOML: {problem}") from problem
    _check_depth(path, table, error)
    return table


def _brackets_nest_deeper(text: str, limit: int) -> bool:
    depth = 0
    for token in _TOKENS.finditer(text):
        mark = token.group()[0]
        depth += (mark in "[{") - (mark in "]}")
        if depth > limit:
            return True
    return False


def _check_depth(path: Path, table: dict[str, Any], error: type[EdgegenError]) -> None:
    level: list[Any] = [table]
    for _ in range(_MAX_DEPTH):
        level = [v for item in level for v in (item.values() if isinstance(item, dict) else item) if isinstance(v, (dict, list))]
        if not level:
            return
    raise error(f"{path} is nested more than {_MAX_DEPTH} levels deep")
