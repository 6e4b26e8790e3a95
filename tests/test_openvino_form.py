"""Which form of transposed convolutions OpenVINO gets, by timing both."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pipeline_runs
import pytest

from edgegen import openvino_form
from edgegen.artifact import UNWATCHED, Artifact, Watch
from edgegen.data import open_inputs
from edgegen.generator import Generator
from edgegen.load import load
from edgegen.openvino_form import KEPT, SUB_PIXEL, OpenForm, choose_form
from edgegen.spec import Precision


@pytest.fixture
def generator(tmp_path: Path) -> Generator:
    return load(pipeline_runs.write_latent_checkpoint(tmp_path))


def chosen(generator: Generator, trial: Path, watch: Watch = UNWATCHED, precision: Precision = Precision.F32) -> dict[str, Any]:
    calibration = open_inputs(generator.spec, None, calibration="auto", seed=0, held_out=4).calibration(2)
    return choose_form(generator, OpenForm((KEPT, SUB_PIXEL), False, precision, 1), calibration, trial, watch)[1]


@pytest.mark.parametrize(
    ("precision", "arithmetic"),
    [
        pytest.param(Precision.F32, "f32", id="f32 computes in f32 everywhere"),
        pytest.param(Precision.F16, "bf16", id="f16 in what this processor is fastest in"),
    ],
)
@pytest.mark.parametrize(("sub_pixel_s", "best"), [(0.91, SUB_PIXEL), (0.93, KEPT)])
def test_forms_are_timed_in_the_arithmetic_of_the_precision_and_must_gain_more_than_noise(
    generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision, arithmetic, sub_pixel_s, best
) -> None:
    timed = list[Any]()

    def clock(artifacts: Sequence[Artifact], samples: object, threads: int) -> list[float]:
        timed.extend(artifact.entry.settings["inference_precision"] for artifact in artifacts)
        return [1.0, sub_pixel_s]

    monkeypatch.setattr(openvino_form, "time_artifacts", clock)
    monkeypatch.setattr("edgegen.export.openvino.native_arithmetic", lambda: "bf16")
    assert chosen(generator, tmp_path / "trial", precision=precision)["conv_transpose"] == best
    assert timed == [arithmetic, arithmetic]


def test_a_form_whose_trial_died_is_not_taken_and_the_reason_is_a_fact(generator: Generator, tmp_path: Path) -> None:
    told = list[str]()
    facts = chosen(generator, tmp_path / "trial", Watch(told.append, {"trial (kept)": "crashed (SIGABRT) while it was built"}))
    assert facts["conv_transpose"] == SUB_PIXEL and told == []
    assert facts["conv_transpose_lost"] == {"kept": "crashed (SIGABRT) while it was built"}
    both = {f"trial ({name})": "crashed (SIGABRT) while it was built" for name in (KEPT, SUB_PIXEL)}
    assert chosen(generator, tmp_path / "trial", Watch(told.append, both))["conv_transpose"] == KEPT
