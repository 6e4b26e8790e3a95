"""Learned ranges reach ai-edge-quantizer for the layer whose weights they belong to."""

import numpy as np
import pytest
import torch
from small_generators import generator_of, samples
from torch import nn

from edgegen.export.litert_convert import convert
from edgegen.export.litert_ranges import with_learned
from edgegen.export.tflite import export_litert
from edgegen.ranges import LearnedRange, weight_digest
from edgegen.rewrite import lower
from edgegen.runtime.runners import open_runner
from edgegen.spec import Backend, Precision

pytestmark = pytest.mark.slow


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.up = nn.Conv2d(3, 8, 3, padding=1), nn.ConvTranspose2d(8, 6, 4, 2, 1)
        self.last = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x):
        return torch.tanh(self.last(torch.relu(self.up(torch.relu(self.first(x))))))


def learned(net: nn.Module, bound: float, *names: str) -> list[LearnedRange]:
    return [LearnedRange(weight_digest(net.get_submodule(n).weight.detach().numpy()), -bound, bound) for n in names]


def test_every_layer_is_found_by_its_weights_and_foreign_ranges_change_nothing() -> None:
    torch.manual_seed(0)
    net = Decoder().eval()
    content = convert(lower(generator_of(net), Backend.LITERT))
    from edgegen.export.litert_ranges import _layers

    names = {weight_digest(weight): name for name, weight in _layers(content)}
    seen = {name: {"min": np.float32([[-1]]), "max": np.float32([[1]])} for name in names.values()}
    for layer in ("first", "up", "last"):
        (one,) = learned(net, 0.25, layer)
        made = with_learned(seen, content, [one])
        changed = [name for name in made if float(made[name]["max"].item()) == 0.25]
        assert changed == [names[one.weight_digest]]
        assert made[changed[0]]["min"].shape == (1, 1) and float(made[changed[0]]["min"].item()) == -0.25
    assert with_learned(seen, content, [LearnedRange("0" * 64, -9.0, 9.0)]) == seen


def test_a_range_that_cuts_everything_off_shows_in_the_picture(tmp_path) -> None:
    torch.manual_seed(0)
    net = Decoder().eval()
    generator = lower(generator_of(net), Backend.LITERT)
    given = samples(generator, 4, seed=1)

    def picture(ranges: list[LearnedRange]) -> np.ndarray:
        (artifact,) = export_litert(generator, (Precision.INT8,), given, tmp_path / str(len(ranges)), ranges)
        runner = open_runner(artifact.folder, artifact.entry, 1)
        try:
            return runner.run([np.ascontiguousarray(given[0][0].transpose(0, 2, 3, 1))])[0]
        finally:
            runner.close()

    assert float(np.ptp(picture(learned(net, 1e-4, "up")))) < 0.8 * float(np.ptp(picture([])))
