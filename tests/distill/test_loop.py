"""The training loop on a tiny teacher and student."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import CONFIG, SmoothImages, painter, same_weights, weights
from torch import nn
from train_in_processes import SETTINGS

from edgegen.distill import distill
from edgegen.distill.discriminator import Discriminator
from edgegen.distill.hardware import Arithmetic, pinned_threads
from edgegen.distill.schedule import peak_rate
from edgegen.errors import DivergedError, RecipeError, StorageError
from edgegen.progress import Silent
from edgegen.recipe import USUAL_LEARNING_RATE, LossConfig, MemoryFormat

STEPS = 20


class KilledError(Exception):
    """Stands for a kill between two steps."""


@dataclasses.dataclass
class Recorder:
    """Keeps what it is told; raises KilledError after `last` reports."""

    last: int | None = None
    done: int = 0
    facts: list[dict[str, float]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def start(self, title: str, total: int) -> None:
        self.total = total

    def advance(self, count: int = 1, **facts: float) -> None:
        self.done += count
        self.facts.append(facts)
        if self.last is not None and self.done >= self.last:
            raise KilledError

    def finish(self) -> None:
        self.finished = True

    def note(self, text: str) -> None:
        self.notes.append(text)


def run(work_dir: Path, *, config=CONFIG, student=None, progress=None, steps=STEPS, **more):
    more.setdefault("arithmetic", Arithmetic.F32)
    return distill(
        student or painter(4, seed=1), config, teacher=more.pop("teacher", None) or painter(8, seed=2), inputs=SmoothImages(),
        steps=steps, seed=0, work_dir=work_dir, progress=progress or Silent(), **more,
    )  # fmt: skip


def test_the_student_comes_nearer_to_the_teacher_and_the_record_tells_how(tmp_path):
    progress = Recorder()
    facts = run(tmp_path, progress=progress, steps=60).lineage[-1].facts
    assert facts["curve"][0]["psnr_db"] + 3 < facts["psnr_db"]
    assert facts["curve"][1]["loss"] > facts["loss"]
    assert [point["step"] for point in facts["curve"]] == list(range(0, 61, 5))
    assert (facts["steps"], progress.done, progress.total) == (60, 60, 60)
    assert {"loss", "psnr_db", "ssim"} <= progress.facts[-1].keys()


def test_student_and_teacher_stay_as_they_were(tmp_path):
    student, teacher = painter(4, seed=1), painter(8, seed=2)
    before = weights(student), weights(teacher)
    result = run(tmp_path, student=student, teacher=teacher)
    for generator, kept in zip((student, teacher), before, strict=True):
        assert all(torch.equal(tensor, kept[name]) for name, tensor in generator.module.state_dict().items())
    assert not same_weights(result, student)
    assert not result.module.training
    assert len(student.lineage) == 0


@pytest.mark.parametrize("last", [5, 13, 19])
def test_a_killed_run_that_is_resumed_gives_the_same_bits(tmp_path, last):
    whole = run(tmp_path / "whole")
    with pytest.raises(KilledError):
        run(tmp_path / "cut", progress=Recorder(last=last))
    progress = Recorder()
    resumed = run(tmp_path / "cut", progress=progress)
    assert same_weights(whole, resumed)
    assert progress.facts[1:] and len(progress.facts) - 1 == STEPS - (last - 1 if last % 5 else last) // 5 * 5
    assert whole.lineage[-1].facts == resumed.lineage[-1].facts


def _critic() -> Discriminator:
    return Discriminator([nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(256, 1)], 3)


def test_an_adversarial_run_resumes_to_the_same_bits_and_moves_the_weights(tmp_path):
    config = dataclasses.replace(CONFIG, losses=LossConfig(adversarial=0.1))
    critic = _critic()
    whole = run(tmp_path / "whole", config=config, discriminator=critic)
    with pytest.raises(KilledError):
        run(tmp_path / "cut", config=config, discriminator=critic, progress=Recorder(last=12))
    assert same_weights(whole, run(tmp_path / "cut", config=config, discriminator=critic))
    assert not same_weights(whole, run(tmp_path / "without", config=dataclasses.replace(config, losses=LossConfig())))


def test_batch_norm_that_was_not_folded_trains_and_resumes(tmp_path):
    student = painter(4, seed=1, norm=nn.BatchNorm2d)
    whole = run(tmp_path / "whole", student=student)
    with pytest.raises(KilledError):
        run(tmp_path / "cut", student=student, progress=Recorder(last=7))
    resumed = run(tmp_path / "cut", student=student)
    assert same_weights(whole, resumed)
    assert not torch.equal(weights(whole)["norm.running_mean"], weights(student)["norm.running_mean"])


def test_a_resumed_run_keeps_the_threads_the_arithmetic_and_the_layout_it_began_with(tmp_path):
    config = dataclasses.replace(CONFIG, memory_format=MemoryFormat.CHANNELS_LAST)
    whole = run(tmp_path / "whole", config=config, arithmetic=None)
    with pytest.raises(KilledError):
        run(tmp_path / "cut", config=config, arithmetic=None, progress=Recorder(last=8))
    before = torch.get_num_threads()
    with pinned_threads(before + 1):
        resumed = run(tmp_path / "cut", config=config, arithmetic=None)
        assert torch.get_num_threads() == before + 1
    assert same_weights(whole, resumed)
    facts = resumed.lineage[-1].facts
    assert (facts["threads"], facts["memory_format"]) == (before, "channels_last") and facts == whole.lineage[-1].facts


def test_workers_and_stored_images_change_no_bit_and_resume(tmp_path):
    pool = dataclasses.replace(CONFIG, losses=LossConfig(feature=0.0), augment=dataclasses.replace(CONFIG.augment, views=2))
    alone = run(tmp_path / "alone", config=pool)
    ahead = dataclasses.replace(pool, workers=2)
    with pytest.raises(KilledError):
        run(tmp_path / "cut", config=ahead, progress=Recorder(last=13))
    assert same_weights(alone, run(tmp_path / "cut", config=ahead))


def test_a_training_without_progress_stops_early_and_says_so_and_is_not_taken_up_again(tmp_path):
    config = dataclasses.replace(CONFIG, learning_rate=1e-8, evaluate_every=2, patience=3)
    progress = Recorder()
    first = run(tmp_path, config=config, progress=progress, steps=40)
    facts = first.lineage[-1].facts
    assert (facts["steps"], facts["planned_steps"], progress.done) == (6, 40, 6)
    assert "distill: stopped after 6 of 40 steps: 3 evaluations brought nothing better" in progress.notes
    again = Recorder()
    assert same_weights(first, run(tmp_path, config=config, progress=again, steps=40))
    assert len(again.facts) == 1


def test_patience_changes_nothing_while_the_picture_gets_better(tmp_path):
    patient = run(tmp_path / "patient", config=dataclasses.replace(CONFIG, patience=2))
    assert same_weights(patient, run(tmp_path / "endless")) and patient.lineage[-1].facts["steps"] == STEPS


def test_a_training_that_leads_away_from_the_teacher_says_so(tmp_path):
    progress = Recorder()
    run(tmp_path, config=dataclasses.replace(CONFIG, learning_rate=0.3), student=painter(8, seed=2), progress=progress, steps=6)
    assert any("nearer to the teacher before it was trained: lower distill.learning_rate" in note for note in progress.notes)
    calm = Recorder()
    run(tmp_path / "calm", progress=calm, steps=20)
    assert not any("before it was trained" in note for note in calm.notes)


def test_without_a_rate_the_student_gets_the_one_that_fits_its_start_and_keeps_it_when_resumed(tmp_path):
    automatic = dataclasses.replace(CONFIG, learning_rate=0.0)
    near, far = (
        run(tmp_path / name, config=automatic, student=painter(8, seed=seed)) for name, seed in (("near", 2), ("far", 1))
    )
    assert near.lineage[-1].facts["learning_rate"] == 5e-4
    start = far.lineage[-1].facts["curve"][0]["psnr_db"]
    assert far.lineage[-1].facts["learning_rate"] == peak_rate(start) > 5e-4
    with pytest.raises(KilledError):
        run(tmp_path / "cut", config=automatic, student=painter(8, seed=1), progress=Recorder(last=13))
    assert same_weights(far, run(tmp_path / "cut", config=automatic, student=painter(8, seed=1)))


def test_beside_a_discriminator_the_rate_is_the_usual_one(tmp_path):
    losses = dataclasses.replace(CONFIG.losses, adversarial=0.1)
    config = dataclasses.replace(CONFIG, learning_rate=0.0, losses=losses)
    facts = run(tmp_path, config=config, discriminator=_critic(), steps=2).lineage[-1].facts
    assert facts["learning_rate"] == USUAL_LEARNING_RATE


def test_the_record_and_a_note_say_what_more_steps_would_give(tmp_path):
    progress = Recorder()
    facts = run(tmp_path, progress=progress, steps=40).lineage[-1].facts
    assert facts["more_time"]["gain_db"] > 0 and progress.notes[-1] == f"distill: {facts['more_time']['text']}"


def test_another_setting_starts_from_the_beginning(tmp_path):
    run(tmp_path)
    progress = Recorder()
    run(tmp_path, config=dataclasses.replace(CONFIG, learning_rate=1e-3), progress=progress)
    assert progress.facts[0] == {} and len(progress.facts) == STEPS + 1


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = run(tmp_path)
    progress = Recorder()
    assert same_weights(first, run(tmp_path, progress=progress))
    assert len(progress.facts) == 1


def test_a_damaged_training_state_is_named(tmp_path):
    run(tmp_path)
    (state,) = tmp_path.iterdir()
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(StorageError, match="distill.training: the training state is damaged"):
        run(tmp_path)


def test_nan_stops_the_run_names_the_step_and_leaves_the_last_good_state(tmp_path):
    class Broken(SmoothImages):
        def train(self, step, batch, augment):
            images = super().train(step, batch, augment)
            return (images[0] * float("nan"),) if step == 7 else images

    with pytest.raises(DivergedError, match="the loss is no longer finite at step 8 of 20") as caught:
        distill(painter(4, seed=1), CONFIG, teacher=painter(8, seed=2), inputs=Broken(), steps=STEPS, seed=0,
                work_dir=tmp_path, progress=Silent(), arithmetic=Arithmetic.F32)  # fmt: skip
    assert "lower distill.learning_rate (it is 0.005)" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["distill.training"]


def test_the_average_of_the_weights_is_returned(tmp_path):
    last = run(tmp_path / "last", config=dataclasses.replace(CONFIG, ema=0.0))
    average = run(tmp_path / "average")
    state = torch.load(tmp_path / "average" / "distill.training", weights_only=True)["state"]
    assert all(torch.equal(tensor, state["student"][name]) for name, tensor in last.module.state_dict().items())
    assert all(torch.equal(tensor, state["average"][name]) for name, tensor in average.module.state_dict().items())
    assert not same_weights(last, average)


def test_tensorboard_files_hold_scalars_and_pictures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path / "work", log_dir=tmp_path / "log")
    events = EventAccumulator(str(tmp_path / "log"))
    events.Reload()
    assert [event.step for event in events.Scalars("held_out/ssim")] == [0, 5, 10, 15, 20]
    assert {"train/loss", "train/l1", "train/feature", "train/learning_rate"} <= set(events.Tags()["scalars"])
    picture = events.Images("teacher | student")[0]
    assert (picture.width, picture.height) == (2 * 16, 3 * 16)


def test_the_fast_arithmetic_of_the_device_trains_as_well(tmp_path):
    exact = run(tmp_path / "f32", steps=40).lineage[-1].facts
    fast = run(tmp_path / "fast", steps=40, arithmetic=Arithmetic.BF16).lineage[-1].facts
    assert fast["arithmetic"] == "bf16"
    assert fast["psnr_db"] == pytest.approx(exact["psnr_db"], abs=1.0)


def test_an_adversarial_weight_without_a_discriminator_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="there is no discriminator"):
        run(tmp_path, config=dataclasses.replace(CONFIG, losses=LossConfig(adversarial=1.0)))


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["plain", "workers and stored images"])
def test_two_processes_give_the_weights_of_one(tmp_path, setting):
    alone = run(tmp_path / "alone", config=SETTINGS[setting])
    script = Path(__file__).parent / "train_in_processes.py"
    # --multi_gpu is accelerate's word for "several processes here": without a GPU they talk by gloo; --cpu would want MPI
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
               "--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no",
               str(script), str(tmp_path / "two"), setting]  # fmt: skip
    root = Path(__file__).parents[2]
    found = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{Path(__file__).parent}", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    first, second = (torch.load(tmp_path / "two" / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, tensor in weights(alone).items():
        assert torch.equal(first[name], second[name])
        if name != "down.bias":  # InstanceNorm takes it out again: its gradient is rounding noise, which Adam makes full steps of
            assert (first[name] - tensor).abs().max() < 1e-5
