"""Boards for tests: built once, started once in each process of pytest, ended with it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from device_rig.apt import RigError
from device_rig.boards import MODELS, VirtualBoard, running


@pytest.fixture(scope="session")
def start_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], VirtualBoard]]:
    """Return the running board of that name."""
    started: dict[str, VirtualBoard] = {}
    with contextlib.ExitStack() as held:

        def start(name: str) -> VirtualBoard:
            if name not in started:
                folder: Path = tmp_path_factory.mktemp("boards") / name
                try:
                    started[name] = held.enter_context(running(MODELS[name], folder))
                except RigError as problem:
                    pytest.fail(str(problem), pytrace=False)
            return started[name]

        yield start


@pytest.fixture
def board(request: pytest.FixtureRequest, start_board: Callable[[str], VirtualBoard]) -> VirtualBoard:
    """The board that the test is parametrised with (indirect)."""
    return start_board(request.param)


@pytest.fixture
def debian12(start_board: Callable[[str], VirtualBoard]) -> VirtualBoard:
    """A Raspberry Pi 5 with Debian 12, Python 3.11, LiteRT, OpenVINO and onnxruntime."""
    return start_board("debian12")


@pytest.fixture
def debian11(start_board: Callable[[str], VirtualBoard]) -> VirtualBoard:
    """An Orin Nano with glibc 2.31, Python 3.9, onnxruntime, and back ends that need a newer glibc."""
    return start_board("debian11")


@pytest.fixture
def tflite_board(start_board: Callable[[str], VirtualBoard]) -> VirtualBoard:
    """An i.MX 8M Plus with Debian 12 and tflite-runtime with an old numpy."""
    return start_board("tflite")


@pytest.fixture
def busybox(start_board: Callable[[str], VirtualBoard]) -> VirtualBoard:
    """An i.MX 8M Plus with busybox and dropbear: no Python, no sftp, no rsync."""
    return start_board("busybox")
