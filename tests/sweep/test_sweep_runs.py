"""Whole sweeps of a tiny checkpoint, in processes here and on a Ray cluster: killed, interrupted, and always the same result."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pipeline_runs
import pytest
from pipeline_runs import call, command, environment

from edgegen.recipe import Effort
from edgegen.request import Training
from edgegen.sweep.cluster import given_files, work_on_bytes
from edgegen.sweep.units import Asked, make_units

pytestmark = pytest.mark.slow

_RECIPE = """
schema = "edgegen.recipe/1"
name = "tiny-sweep"
title = "What a sweep needs, in seconds"
stages = ["load", "rewrite", "prune", "distill", "export", "verify", "bundle"]

[distill]
steps = 24
batch = 4
warmup_steps = 2
checkpoint_every = 4
evaluate_every = 12
held_out = 4

[export]
precisions = ["f32"]

[verify]
held_out = 4
"""
_LIMIT_S = 300.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint, the recipe, and a sweep by one local worker in local/."""
    folder = tmp_path_factory.mktemp("sweep")
    pipeline_runs.write_latent_checkpoint(folder)
    (folder / "sweep.toml").write_text(_RECIPE)
    done = call(*words(folder, "local"), "--json")
    assert done.returncode == 4, done.stderr  # 1us is impossible
    (folder / "told.json").write_text(done.stdout)
    return folder


def words(folder: Path, out: str, *more: object) -> list[object]:
    where = ["--targets", "intel-n100", "--latencies", "20us,10us,1us", "--recipe", folder / "sweep.toml", "--out", folder / out]
    return ["sweep", folder / "faces.pt", *where, "--effort", "quick", *more]


def table(folder: Path, out: str) -> list[dict]:
    return json.loads((folder / out / "sweep.json").read_text())["units"]


def decided_by_the_seed(rows: list[dict]) -> list[dict]:
    """The rows without what the machine decides. Latencies of this target are predictions, which are arithmetic."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def started(pid: int) -> Iterator[tuple[int, str]]:
    """Yield every living process that `pid` started, directly or not, with its command line."""
    parents, lines = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    parents[int(entry.name)] = int(fields[1])
                    lines[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it ended meanwhile
    for process in parents:
        above = process
        while above in parents and above != pid:
            above = parents[above]
        if above == pid and process != pid:
            yield process, lines[process]


def kill_a_worker(running: subprocess.Popen, is_worker: Callable[[str], bool], begun: Callable[[], bool]) -> None:
    """Kill one process of the sweep as soon as `begun`, as kill -9 would."""
    give_up = time.monotonic() + _LIMIT_S
    while time.monotonic() < give_up and running.poll() is None:
        if begun():
            for process, line in started(running.pid):
                if is_worker(line):
                    os.kill(process, signal.SIGKILL)
                    return
        time.sleep(0.02)
    pytest.fail(f"no worker was seen (exit code {running.poll()})")


def start(*line: object) -> subprocess.Popen:
    env = {**environment(), "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.Popen(command(*line), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def test_every_target_and_budget_has_a_row_and_an_impossible_one_says_why(folder: Path) -> None:
    told = json.loads((folder / "told.json").read_text(), parse_constant=pytest.fail)
    slow, fast, impossible = told["units"]
    assert told["units"] == table(folder, "local")
    assert slow["macs"] > fast["macs"] and slow["latency_ms"] > fast["latency_ms"] and slow["latency_label"] == "predicted"
    assert fast["student_sha256"] != slow["student_sha256"] and 0 < fast["ssim"] <= 1
    assert (impossible["status"], impossible["exit_code"], impossible["verdict"]) == ("failed", 4, None)
    assert impossible["note"].startswith("even the narrowest student needs")
    assert (folder / "local" / slow["bundle"] / "manifest.json").is_file()


def test_the_page_holds_the_table_and_the_plot_and_needs_nothing_else(folder: Path) -> None:
    page = (folder / "local" / "sweep.html").read_text()
    assert page.count("<svg") == 1 and "even the narrowest student" in page and "20.0\u202fµs asked" in page
    assert "http" not in page.replace("http-equiv", "")
    assert (folder / "local" / "front-intel-n100.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "local" / "front-intel-n100.svg").read_text().startswith("<?xml")


def test_rewriting_is_done_once_for_all_budgets(folder: Path) -> None:
    rewritten = {
        json.dumps(json.loads(path.read_text())["lineage"][0])
        for path in (folder / "local" / "units").glob("*/student/generator.json")
    }
    assert len(rewritten) == 1  # the record of the stage holds the seconds that it took


def test_a_finished_sweep_starts_no_worker(folder: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in (folder / "local" / "units").rglob("*")}
    done = call(*words(folder, "local", "--resume"))
    assert done.returncode == 4 and "even the narrowest student needs" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in (folder / "local" / "units").rglob("*")} == files


def test_a_killed_worker_loses_only_its_unit_and_the_result_is_the_same(folder: Path) -> None:
    running = start(*words(folder, "killed", "--workers", "2"))
    units = folder / "killed" / "units"
    kill_a_worker(
        running,
        lambda line: "edgegen.sweep.work" in line and "intel-n100-0.02ms" in line,
        lambda: bool(list(units.glob("intel-n100-0.02ms*.part/run/stages/*.part/distill.training"))),
    )
    _, errors = running.communicate(timeout=_LIMIT_S)
    assert running.returncode == 4, errors
    assert "died (SIGKILL); its unit starts again" in errors and errors.count("starts again") == 1
    assert decided_by_the_seed(table(folder, "killed")) == decided_by_the_seed(table(folder, "local"))


def test_ctrl_c_stops_the_workers_and_resume_goes_on_to_the_same_result(folder: Path) -> None:
    running = start(*words(folder, "stopped"))
    units = folder / "stopped" / "units"
    give_up = time.monotonic() + _LIMIT_S
    while not list(units.glob("intel-n100-*.part/run/stages")) and time.monotonic() < give_up:
        time.sleep(0.02)
    workers = [process for process, line in started(running.pid) if "edgegen.sweep.work" in line]
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=_LIMIT_S)
    assert running.returncode == 130, errors
    assert errors.splitlines()[-1] == "interrupted; run the same command with --resume to continue" and "Traceback" not in errors
    assert workers and not any(Path(f"/proc/{process}").exists() for process in workers)
    refused = call(*words(folder, "stopped"))
    assert refused.returncode == 6 and "already holds a sweep" in refused.stderr
    again = call(*words(folder, "stopped", "--resume"))
    assert again.returncode == 4, again.stderr
    assert decided_by_the_seed(table(folder, "stopped")) == decided_by_the_seed(table(folder, "local"))


def test_on_two_ray_workers_of_which_one_is_killed_the_result_is_that_of_a_local_sweep(folder: Path) -> None:
    running = start(*words(folder, "ray", "--workers", "2", "--ray", "local"))
    units = folder / "ray" / "units"
    shared_is_done = lambda: any(path.suffix != ".part" for path in units.glob("shared-*"))  # noqa: E731
    kill_a_worker(running, lambda line: line.startswith("ray::work_on_bytes"), shared_is_done)
    _, errors = running.communicate(timeout=_LIMIT_S)
    assert running.returncode == 4, errors
    assert errors.count("its unit starts again") == 1
    assert decided_by_the_seed(table(folder, "ray")) == decided_by_the_seed(table(folder, "local"))
    files = {path.relative_to(folder / "local" / "units").as_posix() for path in (folder / "local" / "units").glob("*/student/*")}
    for name in files:
        if name.endswith("safetensors"):
            assert (folder / "ray" / "units" / name).read_bytes() == (folder / "local" / "units" / name).read_bytes()
    bundles = list((folder / "ray" / "units").glob("*/bundle/manifest.json"))
    assert len(bundles) == 2


@pytest.fixture(scope="module")
def together(folder: Path) -> Path:
    """The units of the same sweep with shared training, whose worker was killed while it trained."""
    running = start(*words(folder, "together", "--training", "shared"))
    units = folder / "together" / "units"
    kill_a_worker(
        running,
        lambda line: "edgegen.sweep.work" in line and "nest-" in line,
        lambda: bool(list(units.glob("nest-*.part/run/stages/*.part/distill.training"))),
    )
    _, errors = running.communicate(timeout=_LIMIT_S)
    assert running.returncode == 4 and errors.count("its unit starts again") == 1, errors
    return units


def test_students_of_all_budgets_train_together_and_each_is_polished(folder: Path, together: Path) -> None:
    slow, fast, impossible = table(folder, "together")
    assert slow["macs"] > fast["macs"] and impossible["note"].startswith("even the narrowest student needs")
    (student,) = together.glob("intel-n100-0.01ms*/student/generator.json")
    trained = [stage for stage in json.loads(student.read_text())["lineage"] if stage["stage"] == "distill"]
    assert [stage["facts"].get("widths") for stage in trained] == [2, None]  # together, then alone
    assert (trained[0]["facts"]["steps"], trained[1]["facts"]["steps"]) == (24, 6)


def test_a_worker_elsewhere_gets_bytes_and_makes_the_same_students_as_a_killed_one_here(folder: Path, together: Path) -> None:
    asked = Asked(
        folder / "faces.pt", ("intel-n100",), ("20us", "10us", "1us"), folder / "elsewhere", recipe=str(folder / "sweep.toml"),
        effort=Effort.QUICK, training=Training.SHARED,
    )  # fmt: skip
    nest, *finish = make_units(asked)
    trained = work_on_bytes(dict(nest.job), given_files(nest.job), None, 1)
    fast = next(unit for unit in finish if unit.name.startswith("intel-n100-0.01ms"))
    made = work_on_bytes(dict(fast.job), given_files(fast.job), trained, 1)
    assert made["student/weights.safetensors"] == (together / fast.name / "student" / "weights.safetensors").read_bytes()
    assert not any(path.startswith("run/") for path in made)


def test_a_cluster_that_does_not_answer_is_told_in_one_sentence(folder: Path) -> None:
    done = call(*words(folder, "nowhere", "--ray", "127.0.0.1:1"), timeout_s=60)
    assert done.returncode == 6 and "Traceback" not in done.stderr
    assert "--ray 127.0.0.1:1: no cluster answers" in done.stderr
    refused = call(*words(folder, "nowhere", "--ray", "somewhere"), timeout_s=60)
    assert refused.returncode == 6 and "'somewhere' is not the address of a cluster" in refused.stderr
