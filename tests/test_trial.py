"""Jobs in child processes, with run-times that really die."""

import dataclasses
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import small_bundles

from edgegen.trial import Crash, Given, Job, run_all, time_all

PHOTO = np.zeros((1, 3, small_bundles.HEIGHT, small_bundles.WIDTH), np.float32)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """An artifact that runs, on two inputs."""
    artifact = small_bundles.style(tmp_path_factory.mktemp("style")).artifact
    return Job(artifact.folder, artifact.entry, ((PHOTO,), (PHOTO + 0.5,)))


@pytest.fixture(params=[signal.SIGSEGV, signal.SIGABRT], ids=lambda s: s.name)
def death(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> signal.Signals:
    """The signal by which LiteRT dies in child processes."""
    package = tmp_path / "ai_edge_litert"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "interpreter.py").write_text(f"import os\nos.kill(os.getpid(), {int(request.param)})\n")
    there = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *([there] if there else [])]))
    return request.param


def deadly(job: Job) -> Job:
    return dataclasses.replace(job, entry=dataclasses.replace(job.entry, backend="litert"))


def test_a_death_loses_one_job_and_the_others_are_run(job: Job, death: signal.Signals) -> None:
    seen = list[int]()
    first, lost, last = run_all([job, deadly(job), job], lambda: seen.append(1))
    assert isinstance(first, Given) and isinstance(last, Given)
    assert lost == Crash(f"crashed ({death.name}) while it ran")
    assert len(first.outputs) == 2 and np.array_equal(first.outputs[1], last.outputs[1])
    assert len(seen) == 3


def test_a_death_loses_one_job_and_the_others_are_timed(job: Job, death: signal.Signals) -> None:
    lost, seconds = time_all([deadly(job), job], threads=1)
    assert lost == Crash(f"crashed ({death.name}) while it was timed")
    assert isinstance(seconds, float) and 0 < seconds < 10


def test_what_a_run_time_refuses_is_lost_with_its_sentence(job: Job) -> None:
    altered = dataclasses.replace(job, entry=dataclasses.replace(job.entry, files={**job.entry.files, job.entry.entry: "0" * 64}))
    lost, given = run_all([altered, job])
    assert isinstance(lost, Crash) and job.entry.entry in lost.reason
    assert isinstance(given, Given) and given.ran["backend"] == "openvino"
