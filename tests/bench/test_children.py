"""What the processes on a device print becomes a result or an error of the host."""

import pytest

from edgegen.bench.children import call_runtime
from edgegen.device import Answer, Board, Completed, FakeTransport
from edgegen.errors import BundleError, DataError, DeviceError, EdgegenError, LinkLostError, MissingExtraError


def call(answer: Completed | Answer) -> dict:
    fake = FakeTransport(answer, name="ssh://pi")
    return call_runtime(Board(fake, ("python3", "-m", "edgegen.runtime"), "/e"), "check", "/e/b", seconds=1.0)


def test_the_last_line_is_the_result_whatever_comes_before() -> None:
    assert call(Completed(0, 'INFO: chatter\n{"a": 1}\n')) == {"a": 1}
    assert call(Completed(1, '{"passed": false}\n')) == {"passed": False}


@pytest.mark.parametrize(("code", "kind"), [(7, DataError), (8, MissingExtraError), (10, BundleError)])
def test_the_error_that_the_child_names_is_raised(code: int, kind: type[EdgegenError]) -> None:
    with pytest.raises(kind, match="no such thing") as caught:
        call(Completed(code, "", "noise\nerror: no such thing\nhint: find it\n"))
    assert caught.value.hint == "find it"


def test_a_back_end_that_dies_is_told_by_its_signal() -> None:
    with pytest.raises(BundleError, match="SIGSEGV"):
        call(Completed(139))


@pytest.mark.parametrize(
    "garbage", ["\x1b[2J\x1b]0;evil\x07", '{"a": 1, "a": 2}', "[1]", '{"a": NaN}', "\\xff\\xfe{", "[" * 100_000], ids=range(6)
)
def test_garbage_is_refused_in_a_sentence_that_steers_no_terminal(garbage: str) -> None:
    with pytest.raises(DeviceError) as caught:
        call(Completed(0, garbage + "\n"))
    assert "ssh://pi" in caught.value.message and caught.value.message.isprintable()


def test_a_device_that_takes_too_long_or_loses_its_link_is_named() -> None:
    with pytest.raises(DeviceError, match="took longer than 1 s"):
        call(Answer(Completed(0), delay_s=2.0))
    with pytest.raises(LinkLostError, match="ssh://pi was lost"):
        call(Answer(Completed(0), link_lost=True))
