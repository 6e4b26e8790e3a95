"""The one table of exports, and that help, documentation, validation and exporters follow it."""

import dataclasses
import itertools
from pathlib import Path

import pytest

from edgegen.errors import ExportError, TargetError
from edgegen.export import export
from edgegen.spec import Backend, Precision
from edgegen.support import EXPORTS, NEEDS, TITLES, Status, as_markdown, offered, option_help, require_offered
from edgegen.target import list_exports, list_targets, load_target, read_target, with_backend

ROOT = Path(__file__).resolve().parents[1]


def test_every_pair_of_back_end_and_precision_has_exactly_one_row() -> None:
    pairs = [(row.backend, row.precision) for row in EXPORTS]
    assert sorted(pairs) == sorted(itertools.product(Backend, Precision))
    assert set(NEEDS) == set(TITLES) == set(Backend)


def test_a_row_says_what_is_written_or_why_nothing_is() -> None:
    for row in EXPORTS:
        refused = row.status is Status.REFUSED
        assert bool(row.holds) != refused and bool(row.reason and row.hint) == refused, row


def test_the_page_of_exports_shows_the_table() -> None:
    page = (ROOT / "docs" / "exports.md").read_text(encoding="utf-8")
    assert "\n".join(as_markdown()) in page


def test_the_help_of_backend_names_every_back_end_with_its_precisions() -> None:
    for backend in Backend:
        assert f"{backend.value} ({', '.join(p.value for p in offered(backend))})" in option_help()


@pytest.mark.parametrize(
    "row", [row for row in EXPORTS if row.status is Status.REFUSED], ids=lambda r: f"{r.backend}/{r.precision}"
)
def test_a_refused_precision_stops_the_export_before_anything_is_read(row, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=row.precision.value) as caught:
        export(None, row.backend, (row.precision,), [], tmp_path)  # type: ignore[arg-type]
    assert (row.reason in caught.value.message, caught.value.hint) == (True, row.hint)
    assert not list(tmp_path.iterdir())


def test_what_is_offered_is_let_through() -> None:
    for backend in Backend:
        require_offered(backend, offered(backend))


def test_every_built_in_target_asks_only_for_what_is_offered() -> None:
    for profile, row, _ in list_exports():
        assert row.status is not Status.REFUSED, profile.id


def test_a_profile_that_asks_for_a_refused_precision_is_refused_with_the_reason(tmp_path: Path) -> None:
    text = (ROOT / "targets" / "host.toml").read_text(encoding="utf-8")
    path = tmp_path / "host.toml"
    path.write_text(text.replace('precisions = ["f32", "f16", "int8"]', 'precisions = ["f32", "int8-dynamic"]', 1))
    with pytest.raises(TargetError, match=r"openvino in int8-dynamic: OpenVINO has no dynamic int8"):
        read_target(path)


def test_only_this_machine_is_said_to_run_anything() -> None:
    said = {(profile.local, status) for profile, _, status in list_exports()}
    assert (True, Status.RUNS) in said and (False, Status.RUNS) not in said
    assert (False, Status.ELSEWHERE) in said and (False, Status.VERIFIED) in said


def test_another_back_end_of_a_target_becomes_its_best_one() -> None:
    host = load_target("host")
    chosen = with_backend(host, "onnxruntime")
    assert (chosen.backend, chosen.precisions) == (Backend.ONNXRUNTIME, (Precision.F32, Precision.F16, Precision.INT8))
    assert sorted(b.id.value for b in chosen.backends) == sorted(b.id.value for b in host.backends)
    assert dataclasses.replace(chosen, backends=host.backends) == host


def test_a_back_end_that_the_target_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(TargetError, match="jetson-orin-nano has no back end 'litert'") as caught:
        with_backend(load_target("jetson"), "litert")
    assert caught.value.hint.startswith("it has tensorrt")
    with pytest.raises(ExportError, match="'onnx' is unknown"):
        with_backend(load_target("host"), "onnx")


def test_a_table_of_all_targets_has_each_back_end_once_per_precision() -> None:
    rows = [(profile.id, row.backend, row.precision) for profile, row, _ in list_exports()]
    assert len(rows) == len(set(rows)) == sum(len(b.precisions) for profile in list_targets() for b in profile.backends)
