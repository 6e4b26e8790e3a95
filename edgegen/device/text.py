"""Text that a device sent: it may steer no terminal and fill no screen."""

from __future__ import annotations

MAX_LINE = 2000


def escape(text: str, limit: int = MAX_LINE) -> str:
    """Return `text` on one line with control characters as \\xNN, cut to `limit` characters; it can be printed anywhere."""
    shown = "".join(_visible(c) for c in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def decode(content: bytes) -> str:
    """Return `content` as text; bytes that are no UTF-8 become \\xNN."""
    return content.decode("utf-8", errors="backslashreplace")


def last_line(text: str) -> str:
    """Return the last line of `text` that says something, escaped; "" if none does."""
    lines = [line.strip() for line in text[-2 * MAX_LINE :].splitlines() if line.strip()]
    return escape(lines[-1], 300) if lines else ""


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
