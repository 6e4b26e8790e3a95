"""The Q/DQ form of LiteRT's int8: sums, joins and activations between static layers stay in int8, and a failure loses only it."""

import dataclasses

import numpy as np
import pytest
import torch
from small_generators import SuperResolver, generator_of, samples
from torch import nn

from edgegen.artifact import load_artifacts, save_artifacts
from edgegen.candidates import judge, torch_call
from edgegen.export.litert_qdq import RoundedTensor, with_qdq
from edgegen.export.tflite import Int8Form, LitertSettings, export_litert
from edgegen.progress import Silent
from edgegen.ranges import Estimator, LearnedRange, weight_digest
from edgegen.recipe import load_recipe
from edgegen.request import Request
from edgegen.rewrite import lower
from edgegen.runtime.runners import open_runner
from edgegen.spec import Backend, Budget, Precision
from edgegen.target import load_target
from edgegen.verify import make_cases

BOTH = LitertSettings(tuple(Int8Form))


class Skips(nn.Module):
    """A sum, a concatenation with a skip, a leaky activation and a lone ReLU; the last layer gives the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.leaky, self.relu = nn.LeakyReLU(0.2), nn.ReLU()
        self.down, self.up, self.last = (
            nn.Conv2d(8, 8, 4, 2, 1),
            nn.ConvTranspose2d(8, 8, 4, 2, 1),
            nn.Conv2d(16, 3, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        y = y + self.second(self.leaky(y))
        return torch.tanh(2 * self.last(self.relu(torch.cat([self.up(self.down(y)), y], 1))))


@pytest.fixture
def skips() -> nn.Module:
    torch.manual_seed(0)
    return Skips().eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["skips", "super resolver"])
def test_what_lies_between_static_layers_is_in_int8_and_the_picture_stays(name, skips, tmp_path) -> None:
    torch.manual_seed(0)
    generator = generator_of(skips if name == "skips" else SuperResolver().eval())
    lowered, given = lower(generator, Backend.LITERT), samples(generator, 4, seed=1)
    static, qdq = export_litert(lowered, (Precision.INT8,), given, tmp_path, settings=BOTH)
    assert (static.name, qdq.name) == ("litert/int8", "litert/int8 (Q/DQ)") and not qdq.lost
    counts, static_counts = qdq.facts["operations"], static.facts["operations"]
    assert counts["DEQUANTIZE"] == 1 < static_counts["DEQUANTIZE"]  # in front of the last layer, which is dynamic
    assert qdq.facts["int8_layers"] == qdq.facts["layers"] == qdq.facts["static_layers"] + 1
    assert (qdq.facts["partitions"], qdq.facts["left_out"]) == (1, {}), counts
    wanted = torch_call(generator)(*given[0]).transpose(0, 2, 3, 1)
    for artifact in (static, qdq):
        runner = open_runner(artifact.folder, artifact.entry, 1)
        (picture,) = runner.run([np.ascontiguousarray(given[0][0].transpose(0, 2, 3, 1))])
        runner.close()
        # int8 everywhere but for the last layer: 36 dB seen at worst
        assert 10 * np.log10(np.ptp(wanted) ** 2 / np.mean((picture - wanted) ** 2)) > 30, artifact.name


@pytest.mark.slow
def test_a_generator_too_large_to_convert_with_qdq_loses_that_candidate_with_the_reason_and_no_other(skips, tmp_path) -> None:
    generator = generator_of(skips)
    given = samples(generator, 3, seed=1)
    settings = dataclasses.replace(BOTH, most_qdq_parameters=1_000)
    made = export_litert(lower(generator, Backend.LITERT), (Precision.F32, Precision.INT8), given, tmp_path, settings=settings)
    assert [a.name for a in made if a.lost] == ["litert/int8 (Q/DQ)"]
    assert made[2].lost.startswith("not tried: 3,") and not made[2].folder.exists()
    save_artifacts(made, tmp_path)
    assert load_artifacts(tmp_path) == made
    request = Request(tmp_path / "x.pt", load_target("host"), Budget(), load_recipe("export-only"), tmp_path / "out")
    cases = make_cases(given, generator.spec, torch_call(generator), torch_call(generator))
    judged = judge(request, made, generator, cases, Silent())
    assert judged[2].decision.reason == made[2].lost and judged[2].verification is None
    assert [j.decision.chosen for j in judged].count(True) == 1 and not judged[2].decision.chosen
    assert judged[2].to_json()["size_bytes"] == 0


def test_learned_ranges_take_the_place_of_those_seen_at_the_input_of_their_layer(skips) -> None:
    generator = generator_of(skips)
    lowered, given = lower(generator, Backend.LITERT), samples(generator, 2, seed=1)

    def widths(learned: list[LearnedRange]) -> list[float]:
        made = with_qdq(lowered, given, Estimator.MIN_MAX, learned)
        return [m.scale * 255 for m in made.module.modules() if isinstance(m, RoundedTensor)]

    seen = widths([])
    put = widths([LearnedRange(weight_digest(skips.down.weight.detach().numpy()), -0.125, 0.125)])
    changed = [new for old, new in zip(seen, put, strict=True) if old != new]
    assert changed == [pytest.approx(0.25)]


def test_placing_q_and_dq_leaves_the_generator_alone(skips) -> None:
    generator = generator_of(skips)
    lowered, given = lower(generator, Backend.LITERT), samples(generator, 2, seed=1)
    before = [node.name for node in lowered.module.graph.nodes]
    made = with_qdq(lowered, given, Estimator.PERCENTILE)
    assert [node.name for node in lowered.module.graph.nodes] == before
    wanted, rounded = torch_call(lowered)(*given[0]), torch_call(made)(*given[0])
    assert 0 < np.abs(wanted - rounded).max() < 0.2  # int8 over tanh's range of 2
    assert dataclasses.replace(made, module=lowered.module) == lowered
