import base64
import dataclasses
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from edgegen.errors import StorageError
from edgegen.report import render_report, write_report
from edgegen.report.model import Evidence, PictureRow
from edgegen.report.pictures import difference, overlay
from edgegen.report_data import fault_rows
from edgegen.spec import Verdict

VOID = {"meta", "img", "br", "link", "input", "hr"}
FETCHING = ("src", "srcset", "poster", "data", "action", "background")


class Page(HTMLParser):
    """Reads the page strictly: every element that opens closes, in order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.text, self.unbalanced = [], [], "", []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def html(data):
    return render_report(data)


def decode(uri):
    head, payload = uri.split(",", 1)
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(payload, validate=True))))


def test_every_element_closes_and_ids_are_unique(html):
    page = Page(html)
    assert page.open == [] and page.unbalanced == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_page_holds_no_address_and_forbids_all_loading(html):
    assert "://" not in html
    assert not re.search(r"@import|url\((?!#)", html)
    page = Page(html)
    assert page.all("link") == [] and page.all("iframe") == []
    for tag, attributes in page.elements:
        for name in FETCHING:
            assert tag == "img" or name not in attributes
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:")


def test_every_picture_decodes_to_what_was_given_and_has_an_alt_text(html, data, picture_rows):
    images = Page(html).all("img")
    expected = []
    for row in picture_rows:
        expected += [row.input, row.teacher, row.student, row.artifact, difference(row.artifact, row.teacher)]
    expected += [overlay(row.picture, row.heat) for row in data.faults if row.heat is not None]
    assert len(images) == len(expected)
    for image, picture in zip(images, expected, strict=True):
        assert image["alt"]
        assert (int(image["height"]), int(image["width"])) == picture.shape[:2]
        np.testing.assert_array_equal(decode(image["src"]), picture)


def test_the_verdict_comes_first(html):
    text = Page(html).text
    assert text.index("Budget met, with warnings") < text.index("Pictures") < text.index("Candidates")


def test_every_candidate_is_listed_with_its_decision_and_reason_and_how_its_latency_was_found(html, data):
    text = Page(html).text
    for candidate in data.candidates:
        assert candidate.name in text and candidate.reason in text
    assert "7.70\u202fms" in text and "predicted" in text
    assert "5.12\u202fms" in text and "measured" in text


def test_speed_up_compares_only_rows_that_were_timed_in_turns(data):
    alone = dataclasses.replace(data.bench[-1], name="student, alone", latency_p50_ms=1.0, interleaved=False)
    page = Page(render_report(dataclasses.replace(data, bench=(*data.bench, alone))))
    assert "17.1×" in page.text.split("Pictures")[0]
    assert "timed alone" in page.text


def test_the_same_data_gives_the_same_bytes(html, data):
    assert render_report(data) == html


def test_text_from_outside_is_escaped(data):
    evil = "<script>alert(1)</script>&\"'"
    page = render_report(dataclasses.replace(data, title=evil, warnings=(evil,), facts={evil: evil}, command=evil))
    assert "<script>alert" not in page
    assert Page(page).text.count(evil) >= 5
    chosen = dataclasses.replace(data.candidates[2], name=evil, reason=evil)
    assert "<script>alert" not in render_report(dataclasses.replace(data, candidates=(chosen,)))


def test_what_is_unknown_is_a_dash_and_empty_sections_are_left_out(bare_data):
    page = Page(render_report(bare_data))
    assert "–" in page.text and "None" not in page.text and "nan" not in page.text
    for heading in ("Pictures", "Speed", "Stages", "What ran where", "Warnings", "Faults"):
        assert heading not in page.text
    assert page.all("svg") == []


def test_a_missed_budget_says_which_limit_was_missed(data):
    late = dataclasses.replace(data.budget, latency_s=0.004)
    page = Page(render_report(dataclasses.replace(data, verdict=Verdict.BUDGET_MISSED, budget=late)))
    assert "Budget missed" in page.text
    assert re.search(r"latency p50\s*≤ 4\.00\u202fms\s*5\.12\u202fms\s*✕ missed", page.text)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_its_words(bare_data, verdict):
    assert verdict.value.split("-")[-1] in Page(render_report(dataclasses.replace(bare_data, verdict=verdict))).text.lower()


def test_grey_pictures_without_input_or_student_are_shown(data):
    grey = np.tile(np.arange(28, dtype=np.uint8)[:, None, None] * 9, (1, 28, 1))
    images = Page(render_report(dataclasses.replace(data, rows=(PictureRow("seed 7", grey, grey),), faults=()))).all("img")
    assert [decode(image["src"]).shape for image in images] == [(28, 28), (28, 28), (28, 28)]
    assert decode(images[-1]["src"]).max() == 0
    assert all(image["class"] == "pixelated" for image in images)


def test_a_fault_is_shown_in_red_and_yellow_on_the_grey_picture_in_which_it_shows_most(picture_rows):
    broken = picture_rows[1].artifact.copy()
    broken[:32, :32] = 0
    rows = (picture_rows[0], dataclasses.replace(picture_rows[1], artifact=broken), picture_rows[2])
    black = next(row for row in fault_rows(rows) if row.finding.name == "black")
    assert black.where == picture_rows[1].name
    shown = overlay(black.picture, black.heat)
    assert shown[4, 4, 0] > 200 and shown[4, 4, 2] < 60
    assert np.ptp(shown[64:, 64:].astype(int), axis=2).max() == 0


def test_what_is_far_from_its_limit_has_no_heat_map(picture_rows):
    good = tuple(dataclasses.replace(row, artifact=row.teacher) for row in picture_rows)
    assert [row.heat for row in fault_rows(good)] == [None] * 9


def test_difference_is_eight_times_enlarged_and_stops_at_white():
    black = np.zeros((1, 3, 1), np.uint8)
    produced = np.array([0, 3, 200], np.uint8).reshape(1, 3, 1)
    assert difference(produced, black).ravel().tolist() == [0, 24, 255]
    assert difference(black, produced).ravel().tolist() == [0, 24, 255]


def test_the_plot_names_all_candidates_and_marks_predictions(data):
    named = dataclasses.replace(data.candidates[2], name="jetson/int8", chosen=False, evidence=Evidence.PREDICTED)
    page = Page(render_report(dataclasses.replace(data, candidates=(*data.candidates, named))))
    (svg,) = page.all("svg")
    assert "viewbox" in svg and "width" not in svg
    assert "jetson/int8 (predicted)" in page.text and "quality floor" in page.text and "latency budget" in page.text
    assert "1 without latency or quality not drawn" in page.text


@pytest.mark.filterwarnings("error::UserWarning")
def test_a_budget_far_outside_the_plot_does_not_squeeze_it(data):
    far = dataclasses.replace(data.budget, latency_s=10.0, min_ssim=None)
    assert "latency budget" not in Page(render_report(dataclasses.replace(data, budget=far, rows=()))).text


def test_writing_replaces_the_file_completely_and_leaves_nothing_else(tmp_path, bare_data):
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(path, bare_data)
    assert path.read_text(encoding="utf-8") == render_report(bare_data)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path, bare_data):
    with pytest.raises(StorageError, match=r"nowhere/report\.html cannot be written: No such file"):
        write_report(tmp_path / "nowhere" / "report.html", bare_data)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, bare_data):
    path = tmp_path / "report.html"
    path.mkdir()  # a file cannot replace a folder: the last step fails
    with pytest.raises(StorageError):
        write_report(path, bare_data)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
