"""Read the script of a `fake:script.json`: the answers of a device that is not there."""

from __future__ import annotations

import threading
from pathlib import Path

from edgegen.device.fake import Answer, FakeTransport
from edgegen.device.transport import Completed
from edgegen.errors import DeviceError, nearest
from edgegen.runtime.errors import RuntimeBundleError
from edgegen.runtime.strict_json import parse

_KEYS = {"when": str, "stdout": str, "stderr": str, "exit_code": int, "delay_s": (int, float), "link_lost": bool}


def open_fake(path: str, *, stop: threading.Event | None = None) -> FakeTransport:
    """Return the fake device of the script at `path`: {"answers": [{"when": "uname", "stdout": "..."}, ...]}."""
    try:
        content = Path(path).read_bytes()
    except OSError as problem:
        raise DeviceError(f"fake:{path} cannot be read: {problem.strerror}") from problem
    try:
        answers = parse(content, path).get("answers")
    except RuntimeBundleError as problem:
        raise DeviceError(problem.message) from problem
    if not isinstance(answers, list):
        raise DeviceError(f"{path}: answers is no list", hint='write {"answers": [{"when": "uname", "stdout": "Linux"}]}')
    return FakeTransport(*(_answer(path, index, raw) for index, raw in enumerate(answers)), name=f"fake:{path}", stop=stop)


def _answer(path: str, index: int, raw: object) -> Answer:
    where = f"{path}: answers[{index}]"
    if not isinstance(raw, dict):
        raise DeviceError(f"{where} is no object")
    for key, value in raw.items():
        if key not in _KEYS:
            raise DeviceError(f"{where}: {key} is not a key", hint=nearest(key, tuple(_KEYS)))
        if not isinstance(value, _KEYS[key]):
            raise DeviceError(f"{where}: {key} has the wrong type")
    completed = Completed(raw.get("exit_code", 0), raw.get("stdout", ""), raw.get("stderr", ""))
    return Answer(completed, raw.get("when", ""), float(raw.get("delay_s", 0.0)), raw.get("link_lost", False))
