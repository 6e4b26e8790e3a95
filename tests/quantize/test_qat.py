"""Quantisation-aware training goes through the one training loop and leaves an ordinary generator with ranges."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx, nn

from edgegen.data import open_inputs
from edgegen.distill import distill
from edgegen.distill.hardware import Arithmetic
from edgegen.generator import Generator, load_generator, save_generator
from edgegen.load import load
from edgegen.progress import Silent
from edgegen.quantize.fake import FakeActivation
from edgegen.quantize.qat import finish, prepare, reestimate_statistics, scheme_of
from edgegen.ranges import weight_digest
from edgegen.recipe import AugmentConfig, DistillConfig, LossConfig
from edgegen.spec import Backend, ComponentSpec, Kind, Layout, TensorSpec

STEPS = 24


class Small(nn.Module):
    """A decoder with everything that matters: a transposed convolution, a residual sum, an end with a range."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 64)
        self.up = nn.ConvTranspose2d(16, 12, 4, stride=2, padding=1)
        self.conv = nn.Conv2d(12, 12, 3, padding=1)
        self.head = nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, z):
        x = torch.relu(self.stem(z)).reshape(-1, 16, 2, 2)
        x = torch.relu(self.up(x))
        x = x + self.conv(x)
        return torch.tanh(self.head(x))


def generator() -> Generator:
    torch.manual_seed(0)
    net = Small().eval()
    with torch.no_grad():
        for layer in (net.up, net.conv, net.head):
            layer.weight.mul_(2.0)  # a random network's pictures are nearly grey otherwise
    latent = TensorSpec("z", Kind.LATENT, (8,), Layout.D)
    picture = TensorSpec("image", Kind.IMAGE, (3, 4, 4), Layout.CHW, low=-1, high=1)
    return Generator(fx.symbolic_trace(net), ComponentSpec("small", (latent,), (picture,)), "test", {}, {})


def samples(made: Generator, count: int = 8) -> list[tuple[np.ndarray, ...]]:
    return open_inputs(made.spec, None, calibration="auto", seed=0, held_out=4).calibration(count)


@pytest.mark.parametrize("backend", list(Backend))
def test_what_is_prepared_computes_nearly_the_same_in_256_steps_and_its_source_stays_as_it_was(backend: Backend) -> None:
    student = generator()
    before = {name: tensor.clone() for name, tensor in student.module.state_dict().items()}
    made = prepare(student, scheme_of(backend), samples(student))
    fakes = [layer for layer in made.module.modules() if isinstance(layer, FakeActivation)]
    assert len(fakes) >= 4
    (z,) = samples(student, 1)[0]
    with torch.no_grad():
        apart = (made.module(torch.from_numpy(z)) - student.module(torch.from_numpy(z))).abs()
    assert 0 < float(apart.max()) < 0.3
    assert all(torch.equal(before[name], tensor) for name, tensor in student.module.state_dict().items())


def test_sums_are_rounded_only_where_the_scheme_says_so() -> None:
    student = generator()
    counts = []
    for backend in (Backend.OPENVINO, Backend.LITERT):
        layers = prepare(student, scheme_of(backend), samples(student)).module.modules()
        counts.append(sum(isinstance(layer, FakeActivation) for layer in layers))
    assert counts[0] == counts[1] + 1  # the result of `conv`; the other input of the sum is read by `conv` too


def test_what_layers_give_is_rounded_after_their_relu_only_where_the_scheme_says_so() -> None:
    student = generator()
    counts = []
    for backend in (Backend.ONNXRUNTIME, Backend.LITERT):
        layers = prepare(student, scheme_of(backend), samples(student)).module.modules()
        counts.append(sum(isinstance(layer, FakeActivation) for layer in layers))
    assert counts[0] == counts[1] + 3  # the stem's ReLU, `conv` and the head; that of `up` is what `conv` reads


def trained(student: Generator, backend: Backend, folder: Path, steps: int = STEPS) -> Generator:
    inputs = open_inputs(student.spec, None, calibration="auto", seed=0, held_out=8)
    config = DistillConfig(
        steps=steps, batch=16, learning_rate=5e-4, warmup_steps=4, ema=0.8, checkpoint_every=6, evaluate_every=steps, held_out=8,
        losses=LossConfig(ssim=0.0, feature=0.02), augment=AugmentConfig(crop=0),
    )  # fmt: skip
    prepared = prepare(student, scheme_of(backend), samples(student))
    return distill(
        prepared, config, teacher=student, inputs=inputs, steps=STEPS, seed=0, work_dir=folder, progress=Silent(),
        arithmetic=Arithmetic.F32,
    )  # fmt: skip


@pytest.mark.parametrize("backend", [Backend.OPENVINO, Backend.LITERT, Backend.ONNXRUNTIME])
def test_what_was_trained_ends_as_an_ordinary_generator_with_the_ranges_that_the_back_end_takes(
    tmp_path: Path, backend: Backend
) -> None:
    student = generator()
    plain, ranges = finish(trained(student, backend, tmp_path), student)
    assert list(plain.module.state_dict()) == list(student.module.state_dict())
    assert [n.target for n in plain.module.graph.nodes] == [n.target for n in student.module.graph.nodes]
    assert not torch.equal(plain.module.get_submodule("conv").weight, student.module.get_submodule("conv").weight)
    save_generator(plain, tmp_path)
    (z,) = samples(student, 1)[0]
    with torch.no_grad():
        assert torch.equal(load_generator(tmp_path).module(torch.from_numpy(z)), plain.module(torch.from_numpy(z)))
    layers = [plain.module.get_submodule(name) for name in ("stem", "up", "conv", "head")]
    digests = [weight_digest(layer.weight.detach().numpy()) for layer in layers]
    assert [one.weight_digest for one in ranges] == ([] if backend is Backend.OPENVINO else digests)
    assert all(one.low <= 0 < one.high for one in ranges)


@pytest.mark.slow
def test_training_brings_int8_of_a_real_generator_nearer_to_the_float_one(
    tmp_path: Path, shared_checkpoints: Path, shared_images: Path
) -> None:
    teacher = load(shared_checkpoints / "cifar10_autoencoder" / "autoencoder.pkl")
    inputs = open_inputs(teacher.spec, shared_images / "street_train", calibration="auto", seed=0, held_out=8)
    config = DistillConfig(
        steps=40, batch=16, learning_rate=2e-3, warmup_steps=4, ema=0.9, evaluate_every=40, held_out=8,
        losses=LossConfig(ssim=0.0, feature=0.0), augment=AugmentConfig(crop=0),
    )  # fmt: skip
    prepared = prepare(teacher, scheme_of(Backend.ONNXRUNTIME), inputs.calibration(8))
    result = distill(
        prepared, config, teacher=teacher, inputs=inputs, steps=40, seed=0, work_dir=tmp_path, progress=Silent(),
        arithmetic=Arithmetic.F32,
    )  # fmt: skip
    curve = result.lineage[-1].facts["curve"]
    assert curve[-1]["psnr_db"] > curve[0]["psnr_db"] + 1.0  # 36.9 to about 39 dB


class KilledError(Exception):
    """Stands for a kill between two steps."""


class Killing(Silent):
    """Kills the training after so many steps."""

    def __init__(self, after: int) -> None:
        self._left = after

    def advance(self, count: int = 1, **facts: float) -> None:
        self._left -= count
        if self._left <= 0:
            raise KilledError


def test_a_training_that_was_killed_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    student = generator()
    whole = trained(student, Backend.LITERT, tmp_path / "whole")
    inputs = open_inputs(student.spec, None, calibration="auto", seed=0, held_out=8)
    config = DistillConfig(
        steps=STEPS, batch=16, learning_rate=5e-4, warmup_steps=4, ema=0.8, checkpoint_every=6, evaluate_every=STEPS, held_out=8,
        losses=LossConfig(ssim=0.0, feature=0.02), augment=AugmentConfig(crop=0),
    )  # fmt: skip
    with pytest.raises(KilledError):
        distill(
            prepare(student, scheme_of(Backend.LITERT), samples(student)), config, teacher=student, inputs=inputs, steps=STEPS,
            seed=0, work_dir=tmp_path / "killed", progress=Killing(15), arithmetic=Arithmetic.F32,
        )  # fmt: skip
    resumed = trained(student, Backend.LITERT, tmp_path / "killed")
    for (name, one), other in zip(whole.module.state_dict().items(), resumed.module.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_statistics_of_a_norm_are_those_of_the_samples_and_without_norms_nothing_is_done() -> None:
    net = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4)).eval()
    latent = TensorSpec("z", Kind.LATENT, (8,), Layout.D)
    made = Generator(fx.symbolic_trace(net), ComponentSpec("n", (latent,), (latent,)), "test", {}, {})
    given = [(np.random.default_rng(i).standard_normal((1, 8)).astype(np.float32),) for i in range(32)]
    after = reestimate_statistics(made, given)
    hidden = net[0](torch.from_numpy(np.concatenate([item[0] for item in given]))).detach()
    norm = after.module.get_submodule("1")
    assert torch.allclose(norm.running_mean, hidden.mean(0), atol=1e-5)
    assert torch.allclose(norm.running_var, hidden.var(0), atol=1e-4)
    assert not norm.training and float(net[1].running_mean.abs().max()) == 0
    student = generator()
    assert reestimate_statistics(student, samples(student)) is student
