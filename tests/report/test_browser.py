"""The report in a real browser (Debian's chromium): nothing is broken, nothing is fetched."""

import re
import shutil
import subprocess

import pytest
from PIL import Image

from edgegen.report import write_report

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip

PROBE = """
<script>
addEventListener("load", () => {
  const images = [...document.images];
  const put = (name, value) => document.documentElement.setAttribute("data-" + name, value);
  put("images", images.length);
  put("broken", images.filter((image) => !(image.complete && image.naturalWidth > 0)).length);
  put("plots", [...document.querySelectorAll("svg")].filter((svg) => svg.getBoundingClientRect().height > 200).length);
  put("fetched", performance.getEntriesByType("resource").filter((entry) => !entry.name.startsWith("data:")).length);
  put("overflow", document.documentElement.scrollWidth - document.documentElement.clientWidth);
  images[1].parentElement.click();
  document.getElementById("zoom").dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
  put("zoomed", document.getElementById("zoom").open + " " + document.querySelector("#zoom img").alt);
});
</script>
"""


@pytest.fixture
def browse(tmp_path):
    chromium = shutil.which("chromium")
    assert chromium, "this test needs Debian's chromium: apt-get install chromium"

    def call(page, *flags):
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [chromium, *FLAGS, profile, *flags, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    return call


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 500])
def test_every_picture_renders_nothing_is_fetched_and_a_click_enlarges(tmp_path, data, browse, width):
    page = tmp_path / "report.html"
    write_report(page, data)
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", PROBE + "</body>"), encoding="utf-8")
    dom = browse(page, f"--window-size={width},1000", "--dump-dom")
    seen = dict(re.findall(r'data-(\w+)="([^"]*)"', re.search(r"<html[^>]*>", dom).group()))
    assert seen["images"] == str(5 * len(data.rows) + sum(row.heat is not None for row in data.faults))
    assert (seen["broken"], seen["fetched"], seen["overflow"]) == ("0", "0", "0")
    assert seen["plots"] == "1"
    assert seen["zoomed"] == f"true student, float of {data.rows[0].name}"


@pytest.mark.slow
def test_the_screenshot_shows_the_pictures(tmp_path, data, browse):
    page, shot = tmp_path / "report.html", tmp_path / "report.png"
    write_report(page, data)
    browse(page, "--window-size=1280,1400", f"--screenshot={shot}")
    with Image.open(shot) as picture:
        assert picture.size == (1280, 1400)
        colours = picture.convert("RGB").getcolors(1 << 24)
    # a page of text alone has a few hundred shades of grey; photos have tens of thousands of colours
    assert len(colours) > 10_000
