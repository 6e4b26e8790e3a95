"""Ranges of LiteRT's static int8 are those that the pictures of the calibration inputs lose least by."""

import pytest
import torch
from small_generators import generator_of, samples
from torch import nn

from edgegen.export import litert_quantize
from edgegen.export.litert_convert import convert
from edgegen.export.litert_search import choose_ranges
from edgegen.export.tflite import SIGNATURE, LitertSettings, export_litert
from edgegen.ranges import Estimator
from edgegen.rewrite import lower
from edgegen.spec import Backend, Precision

pytestmark = pytest.mark.slow


def decoder() -> nn.Module:
    torch.manual_seed(0)
    first, second, last = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 3, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last, nn.Tanh()).eval()


def test_the_form_chosen_is_the_best_of_all_that_were_tried_and_leaves_an_outlier_out(monkeypatch) -> None:
    generator = generator_of(decoder())
    lowered, given = lower(generator, Backend.LITERT), samples(generator, 4, seed=1)
    model = convert(lowered)
    choices = []
    monkeypatch.setattr(litert_quantize, "choose_ranges", lambda *a, **k: choices.append(choose_ranges(*a, **k)) or choices[-1])
    fed = [{"args_0": item[0].transpose(0, 2, 3, 1).copy()} for item in given]
    fed[0]["args_0"][0, 5, 5, 0] = 50.0  # one hot pixel of 12,288: with the extremes, 0.2 is one step
    for tries in (0, 4):
        litert_quantize.quantize(model, Precision.INT8, fed, signature=SIGNATURE, most_tries=tries)
    plain, searched = choices
    assert set(plain.tried) == {way.value for way in Estimator}
    for choice in choices:
        assert choice.psnr_db == choice.tried[choice.ranges] == max(choice.tried.values())
    assert plain.psnr_db > plain.tried[Estimator.MIN_MAX.value] + 1  # 32.5 against 30.0 dB
    assert searched.psnr_db >= plain.psnr_db and searched.estimator is plain.estimator


def test_the_artifact_tells_how_its_ranges_were_found_and_equal_calibrations_give_equal_files(tmp_path) -> None:
    generator = generator_of(decoder())
    lowered, given = lower(generator, Backend.LITERT), samples(generator, 3, seed=1)
    made = [
        export_litert(lowered, (Precision.INT8,), given, tmp_path / name, settings=LitertSettings(most_tries=4))[0]
        for name in ("first", "second")
    ]
    assert made[0].entry.files == made[1].entry.files
    assert made[0].facts["ranges"] in {*(way.value for way in Estimator), "picture-driven"}
    assert made[0].facts["calibration_psnr_db"] > 20
