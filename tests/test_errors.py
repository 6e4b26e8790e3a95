"""One exit code per kind of error, hints that name the nearest word, and missing extras that name their `pip install`."""

import re
from pathlib import Path

import pytest

from edgegen import errors
from edgegen.errors import EdgegenError, MissingExtraError, nearest, require

KINDS = EdgegenError.__subclasses__()
ERRORS_PAGE = Path(__file__).resolve().parents[1] / "docs" / "errors.md"


def test_every_kind_of_error_has_its_own_exit_code() -> None:
    codes = [kind.exit_code for kind in KINDS]
    assert len(set(codes)) == len(codes)
    assert not {0, 1, 2, 130} & set(codes)  # done, bug, usage, interrupted


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_carries_its_fact_and_its_fix(kind: type[EdgegenError]) -> None:
    error = kind("the fact", hint="the fix")
    assert (error.message, error.hint, str(error)) == ("the fact", "the fix", "the fact")
    assert kind.__doc__


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_errors_page_explains_every_exit_code(kind: type[EdgegenError]) -> None:
    assert re.search(rf"^## {kind.exit_code}: ", ERRORS_PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_all_errors_of_the_module_are_of_the_one_base() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and value is not EdgegenError]
    assert all(issubclass(value, EdgegenError) for value in classes)


def test_a_near_miss_is_named() -> None:
    assert nearest("size_mb", ("size_mib", "latency")) == "did you mean 'size_mib'?"


def test_without_a_near_miss_all_known_words_are_listed() -> None:
    assert nearest("zzz", ("host", "jetson")) == "known: host, jetson"


def test_a_missing_package_names_the_extra_that_brings_it() -> None:
    with pytest.raises(MissingExtraError) as caught:
        require("no_such_package.part", extra="tflite")
    assert caught.value.message.startswith("no_such_package is not installed")
    assert caught.value.hint == "pip install 'edgegen[tflite]'"


def test_a_package_that_is_there_is_returned() -> None:
    assert require("json", extra="all").loads("1") == 1
