"""What every table of results says about where its figures come from."""

from __future__ import annotations

import os
import re
from importlib.metadata import version
from pathlib import Path


def machine() -> str:
    """Return one line: processor, logical cores, and the versions of what was timed."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "openvino", "nncf"))
    return f"{found.group(1) if found else 'unknown processor'}, {os.cpu_count()} logical cores, {packages}"


def write_result(path: Path, title: str, command: str, body: str) -> None:
    """Write a table with its command and its machine, as markdown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# {title}\n\nMade with `{command}` on {machine()}.\n\n{body.strip()}\n")
