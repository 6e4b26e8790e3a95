"""Read a JSON object that nobody vouches for: no duplicate, missing or extra key, no NaN, bounded numbers of everything.

Python >= 3.8, standard library only.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Dict, List, NoReturn, Optional, Sequence, Tuple

from edgegen.runtime.errors import RuntimeBundleError

_MAX_ITEMS = 4096
_MAX_DEPTH = 64
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)  # whole strings, so that brackets in them do not count
_MAX_SIDE = 1 << 16
_MAX_ELEMENTS = 1 << 28
_HINT = "the bundle was not written by edgegen, or it was altered"


def parse(content: bytes, where: str) -> Dict[str, Any]:
    """Return the JSON object in `content`; `where` names it in errors.

    Depth is counted before the decoder runs: where a library has raised the recursion limit, it would overflow the C stack.
    """
    if _is_too_deep(content):
        raise RuntimeBundleError(f"{where} is nested too deep", hint=_HINT)
    try:
        value = json.loads(
            content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
        )
    except ValueError as problem:  # JSONDecodeError, UnicodeDecodeError, duplicate keys, NaN, integers of too many digits
        raise RuntimeBundleError(f"{where} is not valid JSON: {problem}", hint=_HINT) from problem
    if not isinstance(value, dict):
        raise RuntimeBundleError(f"{where} is not a JSON object", hint=_HINT)
    return value


def _is_too_deep(content: bytes) -> bool:
    depth = 0
    for token in _TOKENS.finditer(content):
        mark = token.group()[:1]
        if mark in b"[{":
            depth += 1
            if depth > _MAX_DEPTH:
                return True
        elif mark in b"]}":
            depth -= 1
    return False


def _unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key appears twice")
    return made


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is too large for a number")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


class Reader:
    """Takes the values of one object by key. `done` refuses the object if a key is left over; `where` names it in errors."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise RuntimeBundleError(f"{where} is not a JSON object", hint=_HINT)
        if len(value) > _MAX_ITEMS:
            raise RuntimeBundleError(f"{where} has more than {_MAX_ITEMS} keys", hint=_HINT)
        self._left = dict(value)
        self.where = where

    @property
    def keys(self) -> Tuple[str, ...]:
        """The keys that were not taken yet."""
        return tuple(self._left)

    def done(self) -> None:
        """Raise RuntimeBundleError if a key was not taken."""
        for key in self._left:
            raise RuntimeBundleError(f"{self.where}: {key!r} is not a known key", hint=_HINT)

    def refuse(self, key: str, fact: str) -> RuntimeBundleError:
        """Return the error that says what is wrong with `key`."""
        return RuntimeBundleError(f"{self.where}.{key} {fact}", hint=_HINT)

    def text(self, key: str) -> str:
        """Take a text of 1 to 4,096 printable characters."""
        value = self._take(key)
        if not isinstance(value, str) or not 0 < len(value) <= _MAX_ITEMS or not value.isprintable():
            raise self.refuse(key, "is not a printable text")
        return value

    def optional_text(self, key: str) -> Optional[str]:
        """Take a text or null."""
        return self._none(key) if self._left.get(key) is None else self.text(key)

    def word(self, key: str, known: Sequence[str]) -> str:
        """Take one of the `known` words."""
        value = self.text(key)
        if value not in known:
            raise self.refuse(key, f"is {value!r}, not one of {', '.join(known)}")
        return value

    def number(self, key: str) -> float:
        """Take a finite number."""
        value = self._take(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e300:
            raise self.refuse(key, "is not a finite number")
        return value

    def optional_number(self, key: str) -> Optional[float]:
        """Take a finite number or null."""
        return self._none(key) if self._left.get(key) is None else self.number(key)

    def sizes(self, key: str) -> Tuple[int, ...]:
        """Take the shape of a tensor: 0 to 8 sizes of at least 1, at most 2^28 elements."""
        value = self._take(key)
        if not isinstance(value, list) or len(value) > 8:
            raise self.refuse(key, "is not a shape")
        if not all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= _MAX_SIDE for n in value):
            raise self.refuse(key, f"is not a shape: every size must be from 1 to {_MAX_SIDE}")
        if math.prod(value) > _MAX_ELEMENTS:
            raise self.refuse(key, f"has more than {_MAX_ELEMENTS} elements")
        return tuple(value)

    def table(self, key: str) -> Reader:
        """Take an object whose keys will be taken in turn."""
        return Reader(self._take(key), f"{self.where}.{key}")

    def tables(self, key: str) -> List[Reader]:
        """Take a list of objects."""
        value = self._take(key)
        if not isinstance(value, list) or len(value) > _MAX_ITEMS:
            raise self.refuse(key, "is not a list of objects")
        return [Reader(item, f"{self.where}.{key}[{i}]") for i, item in enumerate(value)]

    def plain(self, key: str) -> Dict[str, Any]:
        """Take an object as it is: free-form facts that nothing here depends on."""
        return self.table(key).whole()

    def whole(self) -> Dict[str, Any]:
        """Take everything that is left, as it is."""
        made, self._left = self._left, {}
        return made

    def _take(self, key: str) -> Any:
        if key not in self._left:
            raise RuntimeBundleError(f"{self.where}: '{key}' is missing", hint=_HINT)
        return self._left.pop(key)

    def _none(self, key: str) -> None:
        if self._take(key) is not None:
            raise self.refuse(key, "is not null")
