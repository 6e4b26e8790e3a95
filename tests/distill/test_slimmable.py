"""Several widths learn at once on shared weights, and each comes out as a generator of its own."""

import dataclasses

import pytest
import torch
from tiny import CONFIG, SmoothImages, painter, same_weights, weights
from torch import nn

from edgegen.distill import distill
from edgegen.distill.discriminator import Discriminator
from edgegen.distill.hardware import Arithmetic, open_hardware
from edgegen.distill.slimmable import NestedNetworks, NestedResult, Sandwich, distill_nested
from edgegen.errors import RecipeError
from edgegen.generator import Generator, load_generator, save_generator
from edgegen.graph import example_inputs
from edgegen.nested import Nested
from edgegen.progress import Silent
from edgegen.prune.allocate import Allocation
from edgegen.prune.groups import channel_groups
from edgegen.prune.nested import build_nested
from edgegen.recipe import LossConfig, MemoryFormat

STEPS = 12
NARROWEST = Sandwich(always=(-1,), randoms=0)


class KilledError(Exception):
    """Stands for a kill between two steps."""


class Killer(Silent):
    """Ends the run after `last` steps."""

    def __init__(self, last: int) -> None:
        self.left = last

    def advance(self, count: int = 1, **facts: float) -> None:
        self.left -= count
        if self.left <= 0:
            raise KilledError


def nest(*, private: bool = True, norm: type[nn.Module] = nn.InstanceNorm2d) -> Nested:
    """Return widths of 8, 6, 5 and 3 of the painter's 8 channels."""
    teacher = painter(8, seed=2, norm=norm)
    groups = channel_groups(teacher.module, example_inputs(teacher.spec))
    points = [Allocation({g.root: tuple(range(1, 1 + gone)) for g in groups}, 1.0, 1.0, True) for gone in (0, 2, 3, 5)]
    return build_nested(teacher, points, private=private)


def run(work_dir, *, nested: Nested | None = None, progress=None, steps=STEPS, config=CONFIG, **more) -> NestedResult:
    return distill_nested(
        nested or nest(), config, teacher=painter(8, seed=9), inputs=SmoothImages(), steps=steps, seed=0, work_dir=work_dir,
        progress=progress or Silent(), arithmetic=Arithmetic.F32, **more,
    )  # fmt: skip


def plain(student: Generator, work_dir, steps=STEPS, config=CONFIG) -> Generator:
    return distill(student, config, teacher=painter(8, seed=9), inputs=SmoothImages(), steps=steps, seed=0, work_dir=work_dir,
                   progress=Silent(), arithmetic=Arithmetic.F32)  # fmt: skip


def same(a: NestedResult, b: NestedResult) -> bool:
    return all(same_weights(a.student(i), b.student(i)) for i in range(4))


@pytest.mark.parametrize("private", [True, False])
def test_a_width_gives_the_very_pictures_of_the_generator_that_is_taken_out(private):
    nested, inputs = nest(private=private), SmoothImages()
    batch = inputs.train(0, 4, CONFIG.augment)
    hardware = open_hardware(Arithmetic.F32, batch=4)
    networks = NestedNetworks(nested, painter(8, seed=9), batch, hardware, seed=0, inputs=inputs, features=True,
                              sandwich=Sandwich(always=(0, 1, 2, 3)))  # fmt: skip
    for index, learner in enumerate(networks.learners(0)):
        image, *_ = learner.module(*batch)
        assert torch.equal(image, nested.student(index).module(*batch))


def test_training_brings_every_width_nearer_to_the_teacher(tmp_path):
    config = dataclasses.replace(CONFIG, evaluate_every=100)
    found = run(tmp_path, steps=30, config=config)
    untrained = run(tmp_path / "first", steps=1, config=config)
    gains = [after.psnr_db - before.psnr_db for after, before in zip(found.quality, untrained.quality, strict=True)]
    assert len(gains) == 4 and min(gains) > 1.0, gains
    assert found.student(3).lineage[-1].facts["psnr_db"] == found.quality[3].psnr_db


def test_the_measured_quality_is_that_of_the_student_taken_out(tmp_path):
    found = run(tmp_path)
    for index in range(4):
        kept = plain(found.student(index), tmp_path / str(index), steps=1).lineage[-1].facts["curve"][0]
        assert kept["psnr_db"] == pytest.approx(found.quality[index].psnr_db, abs=1e-4)


@pytest.mark.parametrize("layout", list(MemoryFormat)[1:])
@pytest.mark.parametrize("private", [True, False])
def test_the_narrowest_alone_learns_as_in_a_training_of_its_own(tmp_path, private, layout):
    nested, config = nest(private=private), dataclasses.replace(CONFIG, memory_format=layout)
    together = run(tmp_path / "nest", nested=nested, sandwich=NARROWEST, config=config).student(3)
    alone = plain(nested.student(3), tmp_path / "alone", config=config)
    for name, tensor in weights(alone).items():
        if name != "down.bias":  # InstanceNorm takes it out again: its gradient is rounding noise, which Adam makes full steps of
            assert (weights(together)[name] - tensor).abs().max() < 1e-5, name


def test_only_the_weights_that_a_trained_width_reaches_change(tmp_path):
    nested = nest()
    found = run(tmp_path, nested=nested, sandwich=NARROWEST)
    before, after = nested.full.module.state_dict(), found.nested.full.module.state_dict()
    for name, places in nested.widths[-1].places.items():
        reached = torch.zeros(before[name].numel(), dtype=torch.bool)
        reached[places.reshape(-1).long()] = True
        changed = (before[name] != after[name]).reshape(-1)
        assert not changed[~reached].any() and changed[reached].any(), name
    assert all(torch.equal(before[name], after[name]) for name in before.keys() - nested.widths[-1].places.keys())


def test_a_sandwich_trains_the_ends_always_and_the_others_in_turn():
    drawn = [tuple(Sandwich(randoms=2).shares(step, count=7, seed=0)) for step in range(60)]
    assert all(len(chosen) == 4 and chosen[0] == 0 and chosen[-1] == 6 for chosen in drawn)
    assert {index for chosen in drawn for index in chosen} == set(range(7))
    assert drawn == [tuple(Sandwich(randoms=2).shares(step, count=7, seed=0)) for step in range(60)]
    assert drawn != [tuple(Sandwich(randoms=2).shares(step, count=7, seed=1)) for step in range(60)]


def test_weights_of_widths_are_the_parts_of_the_loss():
    shares = Sandwich(randoms=0, weights=(1.0, 9.0, 3.0)).shares(0, count=3, seed=0)
    assert shares == {0: 0.25, 2: 0.75}
    assert Sandwich().shares(0, count=1, seed=0) == {0: 1.0}


@pytest.mark.parametrize("last", [6, 11])
def test_a_killed_run_that_is_resumed_gives_the_same_bits(tmp_path, last):
    whole = run(tmp_path / "whole")
    with pytest.raises(KilledError):
        run(tmp_path / "cut", progress=Killer(last))
    resumed = run(tmp_path / "cut")
    assert same(whole, resumed) and whole.quality == resumed.quality
    assert whole.record.facts == resumed.record.facts


def test_an_adversarial_run_resumes_to_the_same_bits(tmp_path):
    config = dataclasses.replace(CONFIG, losses=LossConfig(adversarial=0.1, feature=0.0))
    critic = Discriminator([nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(256, 1)], 3)
    whole = run(tmp_path / "whole", config=config, discriminator=critic)
    with pytest.raises(KilledError):
        run(tmp_path / "cut", config=config, discriminator=critic, progress=Killer(7))
    assert same(whole, run(tmp_path / "cut", config=config, discriminator=critic))


def test_another_sandwich_starts_from_the_beginning(tmp_path):
    first = run(tmp_path, steps=5)
    other = run(tmp_path, steps=5, sandwich=Sandwich(randoms=1))
    assert not same(first, other)
    assert same(other, run(tmp_path / "fresh", steps=5, sandwich=Sandwich(randoms=1)))


def test_statistics_of_batch_norm_are_those_of_each_width(tmp_path):
    nested = nest(norm=nn.BatchNorm2d)
    found = run(tmp_path, nested=nested)
    images = torch.cat([torch.from_numpy(arrays[0]) for arrays in SmoothImages().calibration()])
    for index in (0, 3):
        module = found.student(index).module
        seen = module.get_submodule("down")(torch.relu(module.get_submodule("stem")(images)))
        assert torch.allclose(module.get_buffer("norm.running_mean"), seen.mean((0, 2, 3)), atol=1e-5)
    assert same(found, run(tmp_path / "again", nested=nested))


def test_nest_and_teacher_stay_as_they_were(tmp_path):
    nested, fresh = nest(), nest()
    run(tmp_path, nested=nested)
    assert all(same_weights(nested.student(i), fresh.student(i)) for i in range(4))


def test_a_student_is_polished_stored_and_read_back_like_any_other(tmp_path):
    student = run(tmp_path / "nest").student(2)
    polished = plain(student, tmp_path / "polish", steps=40, config=dataclasses.replace(CONFIG, learning_rate=2e-3))
    curve = polished.lineage[-1].facts["curve"]
    assert curve[-1]["psnr_db"] > curve[0]["psnr_db"]
    assert [record.stage for record in polished.lineage] == ["prune", "distill", "distill"]
    (tmp_path / "kept").mkdir()
    save_generator(polished, tmp_path / "kept")
    again = load_generator(tmp_path / "kept")
    batch = example_inputs(student.spec)
    assert torch.equal(again.module(*batch), polished.module(*batch))
    assert again.lineage[1].facts["width"] == 2


def test_a_student_taken_out_exports(tmp_path):
    from edgegen.export.openvino import export_openvino
    from edgegen.runtime.runners import open_runner
    from edgegen.spec import Precision

    student = run(tmp_path / "nest", steps=1).student(3)
    (artifact,) = export_openvino(student, (Precision.F32,), [], tmp_path / "artifact")
    (image,) = example_inputs(student.spec)
    runner = open_runner(artifact.folder, artifact.entry, 1)
    (picture,) = runner.run([image.numpy()])
    runner.close()
    assert torch.allclose(torch.from_numpy(picture), student.module(image), atol=1e-4)


@pytest.mark.parametrize(
    ("sandwich", "fact"),
    [
        (Sandwich(always=(0, 4)), "names width 4 of a nest of 4"),
        (Sandwich(always=(), randoms=0), "trains no width"),
        (Sandwich(weights=(1.0, 1.0)), "needs 4 weights"),
    ],
)
def test_a_sandwich_that_does_not_fit_is_refused(tmp_path, sandwich, fact):
    with pytest.raises(RecipeError, match=fact):
        run(tmp_path, sandwich=sandwich)
