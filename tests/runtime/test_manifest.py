"""The manifest is read strictly: everything that is not exactly right is refused by name."""

import contextlib
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import small_bundles
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.runtime.errors import RuntimeBundleError
from edgegen.runtime.manifest import ArtifactEntry, StoredCase, StoredFile, read_manifest

DIGEST = "ab" * 32


@pytest.fixture(scope="module")
def document(style: small_bundles.Small) -> dict[str, Any]:
    case = StoredCase("00", (StoredFile("cases/i.npy", DIGEST),), (StoredFile("cases/o.npy", DIGEST),), 40.0)
    return style.manifest(artifacts=(style.artifact.entry,), cases=(case,)).to_json()


def read(document: dict[str, Any]) -> Any:
    return read_manifest(json.dumps(document).encode())


def test_what_is_written_is_read_back(document: dict[str, Any]) -> None:
    manifest = read(document)
    assert manifest.to_json() == document
    assert manifest.cases[0].inputs[0].path == "cases/i.npy"


def test_an_artifact_entry_is_read_back(style: small_bundles.Small) -> None:
    entry = style.artifact.entry
    assert ArtifactEntry.from_json(json.loads(json.dumps(entry.to_json()))) == entry


@pytest.mark.parametrize("found", ["edgegen.bundle/2", "edgegen.bundle/1.1", "other/1", None, 1])
def test_another_format_is_refused(document: dict[str, Any], found: object) -> None:
    with pytest.raises(RuntimeBundleError, match="has format"):
        read({**document, "format": found})


def _set(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *steps, last = [int(s) if s.isdigit() else s for s in path.split("/")]
        at: Any = document
        for step in steps:
            at = at[step]
        at[last] = value

    return change


def _rename_file(name: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        document["artifacts"][0]["files"] = {name: DIGEST}
        document["artifacts"][0]["entry"] = name

    return change


BAD = {
    "extra key": (_set("surprise", 1), "'surprise' is not a known key"),
    "extra key in a tensor": (_set("component/inputs/0/axis", 1), "'axis' is not a known key"),
    "no preferred artifact": (_set("preferred", "openvino/int8"), "not one of the artifacts"),
    "verdict": (_set("verdict", "great"), "verdict is 'great'"),
    "budget as text": (_set("budget/latency_s", "33ms"), "latency_s is not a finite number"),
    "zero size": (_set("component/inputs/0/shape", [3, 0, 4]), "is not a shape"),
    "shape that overflows": (_set("component/inputs/0/shape", [65536, 65536, 65536]), "more than"),
    "two axes for three letters": (_set("component/inputs/0/shape", [3, 4]), "does not fit layout CHW"),
    "object dtype": (_set("component/inputs/0/dtype", "object"), "dtype is 'object'"),
    "black above white": (_set("component/inputs/0/low", 2.0), "is not below"),
    "case file above the bundle": (_set("cases/0/inputs/0/path", "../secret.npy"), "not a plain relative path"),
    "absolute case file": (_set("cases/0/inputs/0/path", "/etc/passwd"), "not a plain relative path"),
    "no digest": (_set("cases/0/inputs/0/sha256", "abc"), "is not a SHA-256"),
    "missing case input": (_set("cases/0/inputs", []), "other inputs or outputs"),
    "artifact file above the bundle": (_rename_file("../generator.xml"), "not a plain relative path"),
    "absolute artifact file": (_rename_file("/generator.xml"), "not a plain relative path"),
    "backslash": (_rename_file("a\\b.xml"), "not a plain relative path"),
    "hidden file": (_rename_file(".generator.xml"), "not a plain relative path"),
    "empty step": (_rename_file("a//b.xml"), "not a plain relative path"),
    "back end above the bundle": (_set("artifacts/0/backend", ".."), "not a plain relative path"),
    "back end with a step": (_set("artifacts/0/backend", "a/b"), "has a '/'"),
    "entry that is no file": (_set("artifacts/0/entry", "other.xml"), "is not one of its files"),
    "control characters": (_set("name", "a\x1b[2Jb"), "not a printable text"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_manifest_is_refused_for(document: dict[str, Any], name: str) -> None:
    change, reason = BAD[name]
    spoiled = copy.deepcopy(document)
    change(spoiled)
    with pytest.raises(RuntimeBundleError, match=reason):
        read(spoiled)


@pytest.mark.parametrize("key", ["name", "component", "artifacts", "cases", "lineage", "data_sha256", "weights_licence", "tools"])
def test_a_missing_key_is_named(document: dict[str, Any], key: str) -> None:
    with pytest.raises(RuntimeBundleError, match=f"'{key}' is missing"):
        read({k: v for k, v in document.items() if k != key})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"format": NaN}',
        b'{"a": 1, "a": 2}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 5000,
    ],
    ids=["empty", "list", "null", "cut off", "NaN", "duplicate key", "not UTF-8", "deep list", "deep object", "long number"],
)
def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    with pytest.raises(RuntimeBundleError, match="manifest.json"):
        read_manifest(content)


def test_a_huge_manifest_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(RuntimeBundleError, match="larger than 4 MiB"):
        read_manifest(b" " * ((4 << 20) + 1))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_change_of_one_value_gets_past_the_reader_with_another_exception(
    document: dict[str, Any], data: st.DataObject
) -> None:
    spoiled = copy.deepcopy(document)
    at: Any = spoiled
    while isinstance(at, (dict, list)) and at:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = data.draw(st.sampled_from(keys))
        parent, at = at, at[key]
        if data.draw(st.booleans()):
            break
    parent[key] = data.draw(st.sampled_from([None, True, -1, 1e400, "", "..", [], {}, [[]], {"a": None}, 2**70]))
    with contextlib.suppress(RuntimeBundleError):
        read_manifest(json.dumps(spoiled).encode())
