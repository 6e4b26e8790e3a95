"""`edgegen plan`, and `compress --option`, on a tiny checkpoint."""

import json
from pathlib import Path

import pipeline_runs
import pytest
from pipeline_runs import call

from edgegen.plan import read_plan

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A folder with the checkpoint, and what `plan --json` printed for it."""
    folder = tmp_path_factory.mktemp("plan")
    pipeline_runs.write_latent_checkpoint(folder)
    pipeline_runs.write_recipe(folder)
    done = call("plan", *words(folder), "--json")
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout, parse_constant=pytest.fail)


def words(folder: Path) -> list[object]:
    where = ["--target", "intel-n100", "--recipe", folder / "tiny.toml", "--out", folder / "out"]
    return [folder / "faces.pt", *where, "--effort", "quick", "--latency", "15us"]


def test_a_plan_has_three_options_that_say_where_every_figure_comes_from(planned: tuple[Path, dict]) -> None:
    _, plan = planned
    cheapest, balanced, best = plan["options"]
    assert [o["number"] for o in plan["options"]] == [1, 2, 3]
    assert cheapest["latency_s"] <= balanced["latency_s"] <= best["latency_s"] <= 15e-6
    assert cheapest["memory_bytes"] <= best["memory_bytes"] and cheapest["size_bytes"] <= best["size_bytes"]
    assert all(o["latency_label"] == "predicted" and o["train_s"] > 0 and o["ram_bytes"] > 50e6 for o in plan["options"])
    assert all(o["expected"] is None for o in plan["options"])  # no past run has 24 steps of this family at quick effort
    assert len(plan["front"]) > 3 and plan["front"][0]["picture_psnr_db"] is None  # nothing is cut there


def test_a_plan_trains_nothing_and_starts_no_run(planned: tuple[Path, dict]) -> None:
    folder, _ = planned
    assert not (folder / "out" / "stages").exists()


def test_an_option_runs_and_the_report_sets_it_against_what_was_measured(planned: tuple[Path, dict]) -> None:
    folder, plan = planned
    before = (folder / "out" / "plan.json").stat().st_mtime_ns
    done = call("compress", *words(folder), "--option", "2", "--json")
    assert done.returncode == 0, done.stderr
    pruned = next(stage for stage in json.loads(done.stdout)["stages"] if stage["stage"] == "prune")
    option = plan["options"][1]
    assert (pruned["facts"]["macs"], pruned["facts"]["params"]) == (option["macs"], option["params"])
    assert pruned["facts"]["goal_ms"] == pytest.approx(option["latency_s"] * 1e3)
    assert (folder / "out" / "plan.json").stat().st_mtime_ns == before  # the plan that was shown is the one that runs
    page = (folder / "out" / "bundle" / "report.html").read_text()
    rows = page.split('<h2 id="predictions">')[1].split("</section>")[0]
    assert all(f'<th scope="row">{name}</th>' in rows for name in ("latency", "artifact", "memory", "training"))


def test_the_size_of_the_artifact_is_foretold_within_a_third(planned: tuple[Path, dict]) -> None:
    folder, plan = planned
    done = call("compress", *words(folder), "--option", "2", "--resume", "--json")
    (int8,) = (c for c in json.loads(done.stdout)["candidates"] if c["precision"] == "int8")
    assert plan["options"][1]["size_bytes"] == pytest.approx(int8["size_bytes"], rel=0.33)  # tiny: mostly names and shapes


def test_a_plan_for_another_request_is_not_used(planned: tuple[Path, dict], tmp_path: Path) -> None:
    folder, plan = planned
    other = tmp_path / "out"
    other.mkdir()
    (other / "plan.json").write_text((folder / "out" / "plan.json").read_text())
    line = [str(other) if word == folder / "out" else word for word in words(folder)]
    done = call("compress", *line[:-1], "12us", "--option", "1", "--until", "prune")
    assert done.returncode == 0, done.stderr
    made = read_plan(other)
    assert made is not None and made.key != plan["key"]
