"""What a device prints: only what lies between the marks, bounded, and unable to steer a terminal."""

from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.device.streams import Stream
from edgegen.device.text import decode, escape

BEGIN, EXIT = b"edgegen:n:begin\n", b"edgegen:n:exit:3\n"


def read(*blocks: bytes, limit: int = 1000, lines: list[str] | None = None) -> Stream:
    stream = Stream("n", limit, None if lines is None else lines.append)
    for block in blocks:
        stream.feed(block)
    stream.end()
    return stream


def test_greetings_before_the_command_and_the_mark_after_it_are_left_out() -> None:
    stream = read(b"Welcome!\n", BEGIN + b"one\ntw", b"o\n" + EXIT + b"Connection closed.\n")
    assert stream.text() == "one\ntwo\nConnection closed.\n" and stream.exit_code() == 3 and stream.noise == ""


def test_a_command_that_never_began_leaves_what_was_said_instead() -> None:
    stream = read(b"ssh: connect to host x port 22: Connection refused\n")
    assert not stream.began and "Connection refused" in stream.noise and stream.exit_code() is None


def test_a_command_that_claims_the_exit_of_another_is_not_believed() -> None:
    assert read(BEGIN + b"edgegen:other:exit:0\n").exit_code() is None


def test_the_ends_of_lines_of_a_terminal_do_not_hide_the_marks() -> None:
    stream = read(b"hello\r\nedgegen:n:begin\r\n", b"x\r\nedgegen:n:exit:0\r\n")
    assert stream.began and stream.exit_code() == 0 and stream.text() == "x\r\n"


def test_one_endless_line_is_cut_and_counts_as_a_flood() -> None:
    lines: list[str] = []
    stream = read(BEGIN, *[b"A" * 65536] * 200, limit=100_000, lines=lines)
    assert stream.flooded and len(stream.text()) == 100_000
    assert len(lines) == 1 and len(lines[0]) <= 2000 and lines[0].endswith("…")


def test_endless_greetings_are_a_flood_too() -> None:
    stream = read(*[b"noise\n" * 10_000] * 20)
    assert stream.flooded and len(stream.noise) <= 1 << 17


def test_control_characters_and_invalid_bytes_are_shown_and_not_sent() -> None:
    lines: list[str] = []
    read(BEGIN + b"\x1b[2J\xff\x9b31m\x07ok\n", lines=lines)
    assert lines == ["\\x1b[2J\\xff\\x9b31m\\x07ok"]
    assert escape("a\nb\u202eb") == "a\\nb\\u202eb"


@settings(max_examples=100)
@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=20))
def test_where_the_bytes_are_cut_changes_nothing(content: bytes, cuts: list[int]) -> None:
    whole, lines, others = b"motd\n" + BEGIN + content + b"\n" + EXIT, [], []
    blocks, at = [], 0
    for cut in cuts:
        blocks.append(whole[at : at + cut])
        at += cut
    one, other = read(whole, lines=lines), read(*blocks, whole[at:], lines=others)
    assert one.text() == other.text() == decode(content + b"\n") and lines == others
    assert one.exit_code() == other.exit_code() == 3
    assert all(line.isprintable() for line in lines)
