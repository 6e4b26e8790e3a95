import webbrowser

import pytest
import typer
from typer.testing import CliRunner

from edgegen.cli.report import find_report, report
from edgegen.errors import BundleError


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "out" / "bundle"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "report.html").write_text("<!DOCTYPE html>")
    return folder


def run(*words):
    app = typer.Typer()
    app.command()(report)
    return CliRunner().invoke(app, [str(word) for word in words])


class Browser(webbrowser.BaseBrowser):
    """Notes what it is asked to open."""

    def __init__(self, works):
        super().__init__()
        self.works, self.opened = works, []

    def open(self, url, new=0, autoraise=True):
        self.opened.append(url)
        return self.works


@pytest.fixture
def use_browser(monkeypatch):
    def use(browser):
        monkeypatch.setattr(webbrowser, "_tryorder", ["fake"])
        monkeypatch.setattr(webbrowser, "_browsers", {"fake": [None, browser]})
        return browser

    return use


def test_it_prints_where_the_report_is_and_opens_nothing(bundle, use_browser):
    browser = use_browser(Browser(works=True))
    done = run(bundle)
    assert (done.exit_code, done.stdout.strip()) == (0, str(bundle / "report.html"))
    assert browser.opened == []


def test_it_opens_the_report_when_asked(bundle, use_browser):
    browser = use_browser(Browser(works=True))
    assert run(bundle, "--open").exit_code == 0
    assert browser.opened == [(bundle / "report.html").as_uri()]


def test_a_machine_without_a_browser_gets_a_warning_and_the_path(bundle, use_browser):
    use_browser(Browser(works=False))
    done = run(bundle, "--open")
    assert done.exit_code == 0
    assert str(bundle / "report.html") in done.stdout
    assert "no browser was found" in done.stderr


def test_a_bundle_without_a_report_is_a_bundle_error(bundle):
    (bundle / "report.html").unlink()
    with pytest.raises(BundleError, match=r"has no report\.html") as caught:
        find_report(bundle)
    assert "--resume" in caught.value.hint


def test_a_folder_that_is_no_bundle_is_a_bundle_error(tmp_path):
    with pytest.raises(BundleError, match="is not a bundle"):
        find_report(tmp_path)
