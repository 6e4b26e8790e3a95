"""Read what a guarded command says: only what lies between the marks of guard.sh, bounded, line by line if wanted."""

from __future__ import annotations

import io
import re
import threading
from typing import IO

from edgegen.device.text import MAX_LINE, decode, escape
from edgegen.device.transport import LineSink

_BLOCK = 1 << 16
_MAX_NOISE = 1 << 16  # greetings and the errors of ssh itself, before the command begins


class Stream:
    """One stream of a guarded command. `sink` takes the content instead of memory: then it may be of any length."""

    def __init__(self, nonce: str, limit: int, on_line: LineSink | None, sink: IO[bytes] | None = None) -> None:
        self._begin = f"edgegen:{nonce}:begin\n".encode()
        self._exit = re.compile(rb"edgegen:" + nonce.encode() + rb":exit:(\d{1,3})\r?\n")
        self._marks = re.compile(rb"edgegen:" + nonce.encode() + rb":(?:begin|exit:\d{1,3})\r?\n")
        self._limit = limit
        self._on_line = on_line
        self._sink = sink
        self._noise = bytearray()
        self._content = bytearray()
        self._line = bytearray()
        self.began = False
        self.flooded = False
        self.sink_failure: OSError | None = None
        self.ended = False

    def read(self, pipe: IO[bytes], changed: threading.Event) -> None:
        """Read `pipe` to its end; `changed` is set then, and when too much has come."""
        assert isinstance(pipe, (io.BufferedReader, io.RawIOBase))
        while block := _next_block(pipe):
            self.feed(block)
            if self.flooded:
                changed.set()
        self.end()
        changed.set()

    def feed(self, block: bytes) -> None:
        """Take the next bytes."""
        if self.began:
            self._take(block)
            return
        self._noise += block
        at = self._noise.replace(b"\r\n", b"\n").find(self._begin)  # a terminal in between doubles the ends of lines
        if at >= 0:
            self.began = True
            rest = self._noise.split(self._begin.rstrip(b"\n"), 1)[1].lstrip(b"\r")[1:]
            self._noise.clear()
            self._take(bytes(rest))
        elif len(self._noise) > _MAX_NOISE:
            self.flooded = True
            del self._noise[: -_MAX_NOISE // 2]

    def end(self) -> None:
        """Say that no more bytes come."""
        self._emit_line()
        self.ended = True

    @property
    def noise(self) -> str:
        """What came before the command began: greetings, or why it never did."""
        return decode(bytes(self._noise))

    def text(self) -> str:
        """What the command said, without the mark of its end."""
        return decode(self._marks.sub(b"", bytes(self._content)))

    def exit_code(self) -> int | None:
        """The code that the mark of the end holds; None if there is no such mark."""
        found = self._exit.findall(bytes(self._content[-4096:]))
        return int(found[-1]) if found else None

    def _take(self, block: bytes) -> None:
        if self._sink is not None:
            self._to_sink(self._sink, block)
            return
        room = self._limit - len(self._content)
        self.flooded = self.flooded or len(block) > room
        self._content += block[: max(0, room)]
        if self._on_line is not None:
            self._lines(block)

    def _to_sink(self, sink: IO[bytes], block: bytes) -> None:
        """What cannot be stored here ends the command, as too much of it would: nobody takes the rest."""
        try:
            sink.write(block)
        except OSError as problem:
            self.sink_failure, self.flooded = problem, True

    def _lines(self, block: bytes) -> None:
        first, *rest = block.split(b"\n")
        self._line += first[: max(0, 4 * MAX_LINE - len(self._line))]
        for part in rest:
            self._emit_line()
            self._line += part[: 4 * MAX_LINE]

    def _emit_line(self) -> None:
        line = bytes(self._line)
        self._line.clear()
        if self._on_line is not None and line.strip() and not self._marks.match(line + b"\n"):
            self._on_line(escape(decode(line.rstrip(b"\r"))))


def _next_block(pipe: IO[bytes]) -> bytes:
    try:
        return pipe.read1(_BLOCK) if isinstance(pipe, io.BufferedReader) else pipe.read(_BLOCK)
    except (OSError, ValueError):  # closed by whoever gave up waiting
        return b""
