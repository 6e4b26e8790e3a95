"""The record's dataclasses as JSON Schema 2020-12, for other tools. `record.schema.json` is this, written down."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

from edgegen.bench.record import SCHEMA, Record

_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}


def record_schema() -> dict[str, Any]:
    """Return the schema of the files that `write_record` writes."""
    made = _object(Record)
    made["properties"] = {
        "record_id": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "schema": {"const": SCHEMA},
        **made["properties"],
    }
    made["required"] = ["record_id", "schema", *made["required"]]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": SCHEMA, **made}


def _object(cls: type) -> dict[str, Any]:
    """Every key is written, null where unknown, so every key is required that the first version had."""
    hints = typing.get_type_hints(cls)
    properties = {f.name: _value(hints[f.name], f.metadata) for f in dataclasses.fields(cls)}
    needed = [f.name for f in dataclasses.fields(cls) if not f.metadata.get("added")]
    return {
        "type": "object", "description": (cls.__doc__ or "").strip(), "properties": properties, "required": needed,
        "additionalProperties": False,
    }  # fmt: skip


def _value(kind: Any, metadata: typing.Mapping[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        inner = _value(next(a for a in arguments if a is not type(None)), metadata)
        return {"anyOf": [inner, {"type": "null"}]}
    if origin is tuple:
        return {"type": "array", "items": _value(arguments[0], metadata)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _value(arguments[1], metadata)}
    if dataclasses.is_dataclass(kind):
        return _object(typing.cast(type, kind))
    made: dict[str, Any] = {"type": _SCALARS[kind]}
    if metadata.get("pattern") is not None:
        made["pattern"] = f"^({metadata['pattern']})$"
    if metadata.get("low") is not None:
        made["minimum"] = metadata["low"]
    return made
