"""`edgegen bench --layers` and `--table`."""

import json
from pathlib import Path

import small_bundles
from typer.testing import CliRunner

from edgegen.cli.main import app


def call(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def test_the_longest_layers_are_shown_and_all_are_written_with_a_roofline(tmp_path: Path) -> None:
    bundle = small_bundles.style(tmp_path / "a").write(tmp_path / "b")
    options = ("--threads", 1, "--min-runs", 3, "--min-seconds", 0, "--processes", 1, "--layers", "--out", tmp_path / "r.json")
    printed = call("bench", bundle, *options)
    assert "Longest of" in printed and "Convolution" in printed and "share of the time" in printed
    found = json.loads((tmp_path / "r.layers.json").read_text())
    assert (
        found["profile"]["shares"]["f32"]["time"] == 1.0 and len(found["points"]) == 2 and found["peaks"]["source"] == "measured"
    )
    assert (tmp_path / "r.roofline.svg").read_text().startswith("<svg xmlns=")


def test_a_bundle_or_a_table_is_needed(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["bench"]).exit_code == 2
    for options in (["somewhere"], ["--precision", "f16"], ["--backend", "litert"]):
        done = CliRunner().invoke(app, ["bench", *options, "--table", str(tmp_path / "t")])
        assert type(done.exception).__name__ == "RecipeError"
