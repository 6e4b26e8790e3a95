"""One thing that was looked at on a device. Python >= 3.8, standard library only."""

from __future__ import annotations

import dataclasses
import enum


class Health(enum.Enum):
    """Whether it works; "notice" does not stop anything and makes times worse or uncertain, "absent" is not installed."""

    OK = "ok"
    NOTICE = "notice"
    ABSENT = "absent"
    FAILS = "fails"


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was looked at, a `Health` as text, the reason in one clause, and the exact fix ("" if there is nothing to mend)."""

    name: str
    health: str
    reason: str
    fix: str = ""


def ok(name: str, reason: str) -> Finding:
    """Return that it works."""
    return Finding(name, Health.OK.value, reason)


def notice(name: str, reason: str, fix: str) -> Finding:
    """Return what stops nothing and spoils times."""
    return Finding(name, Health.NOTICE.value, reason, fix)


def absent(name: str, reason: str, fix: str) -> Finding:
    """Return what is not installed."""
    return Finding(name, Health.ABSENT.value, reason, fix)


def fails(name: str, reason: str, fix: str) -> Finding:
    """Return what is there and does not work."""
    return Finding(name, Health.FAILS.value, reason, fix)
