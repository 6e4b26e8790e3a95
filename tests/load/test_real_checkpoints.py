"""The real trained generators load with no flag, and draw what their authors drew.

The expected means and standard deviations were taken from pictures that a person looked at. They hold within 0.002 of the
value range: float32 sums in another order move single values by about 1e-5, one wrong padding or activation moves them by 0.01.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgegen.generator import Generator
from edgegen.graph import count_macs, count_params
from edgegen.load import load
from edgegen.spec import Kind, TensorSpec


@dataclasses.dataclass(frozen=True)
class Real:
    """A real checkpoint: what it must be recognised as, and the mean and deviation of its pictures in [0, 1]."""

    file: str
    family: str
    params: int
    output: tuple[int, int, int]
    mean: float
    deviation: float
    resolution: tuple[int, int] | None = None


REAL = [
    Real("style_rain_princess/rain_princess.pt", "johnson-tf", 1_677_638, (3, 256, 256), 0.365, 0.249),
    Real("srgan_x4/netG_epoch_4_100.pth", "srresnet", 734_092, (3, 256, 256), 0.4135, 0.2601),
    Real("dcgan_faces32/generator_2.pth", "dcgan-dense", 793_536, (3, 32, 32), 0.4611, 0.1769),
    Real("vae_celeba64/model.pt", "vae-decoder", 250_979, (3, 64, 64), 0.4444, 0.2411),
    Real("cifar10_autoencoder/autoencoder.pkl", "autoencoder", 30_835, (3, 32, 32), 0.397, 0.2275),
    Real("lowlight_sci/medium.pt", "lowlight-sci", 258, (3, 256, 256), 0.85, 0.1889),
]


@pytest.fixture(scope="module")
def photo(shared_images: Path) -> np.ndarray:
    """The middle 256x256 pixels of a street photo, (256, 256, 3), 0..1, not resampled."""
    with Image.open(sorted((shared_images / "street_test").glob("*.png"))[-1]) as image:
        return np.asarray(image.convert("RGB").crop((112, 52, 368, 308)), dtype=np.float32) / 255


def _input(spec: TensorSpec, photo: np.ndarray) -> torch.Tensor:
    """Return 16 fixed latents, or the photo in the size and range of `spec` (averaged over blocks when it is smaller)."""
    if spec.kind is Kind.LATENT:
        random = np.random.RandomState(0)  # its streams are frozen across numpy versions
        drawn = (
            random.standard_normal((16, *spec.shape))
            if spec.low is None
            else random.uniform(spec.low, spec.high, (16, *spec.shape))
        )
        return torch.from_numpy(drawn.astype(np.float32))
    factor = 256 // spec.height
    small = photo.reshape(spec.height, factor, spec.width, factor, 3).mean(axis=(1, 3))
    assert spec.low is not None and spec.high is not None
    return torch.from_numpy(small.transpose(2, 0, 1)[None].copy()) * (spec.high - spec.low) + spec.low


@torch.no_grad()
def _pictures(generator: Generator, given: torch.Tensor) -> np.ndarray:
    """Return the pictures (N, C, H, W) with black at 0 and white at 1."""
    spec = generator.spec.outputs[0]
    assert spec.low is not None and spec.high is not None
    return ((generator.module(given) - spec.low) / (spec.high - spec.low)).numpy()


def _psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a - b) ** 2)))


@pytest.mark.parametrize("real", REAL, ids=lambda real: real.family)
def test_it_loads_with_no_flag_and_draws_the_same_pictures(shared_checkpoints: Path, photo: np.ndarray, real: Real) -> None:
    generator = load(shared_checkpoints / real.file)
    assert (generator.family, count_params(generator.module)) == (real.family, real.params)
    assert generator.spec.outputs[0].shape == real.output
    assert generator.source["trusted"] is False and generator.source["file"] == Path(real.file).name
    pictures = _pictures(generator, _input(generator.spec.inputs[0], photo))
    assert pictures.min() >= 0.0 and pictures.max() <= 1.0
    assert pictures.mean() == pytest.approx(real.mean, abs=0.002)
    assert pictures.std() == pytest.approx(real.deviation, abs=0.002)


def test_the_style_network_costs_what_its_source_says(shared_checkpoints: Path) -> None:
    generator = load(shared_checkpoints / REAL[0].file, resolution=(256, 256))
    assert count_macs(generator.module, generator.spec) == 8_266_973_184


def test_super_resolution_is_nearer_to_the_photo_than_bicubic_enlargement(shared_checkpoints: Path, photo: np.ndarray) -> None:
    generator = load(shared_checkpoints / "srgan_x4" / "netG_epoch_4_100.pth")
    image = Image.fromarray((photo * 255).round().astype(np.uint8))
    small = image.resize((64, 64), Image.Resampling.BICUBIC)
    bicubic = np.asarray(small.resize((256, 256), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    given = torch.from_numpy(np.asarray(small, dtype=np.float32).transpose(2, 0, 1)[None] / 255)
    drawn = _pictures(generator, given)[0].transpose(1, 2, 0)
    assert _psnr_db(drawn, photo) > _psnr_db(bicubic, photo) + 0.4  # measured: 21.8 against 21.0 dB


def test_the_encoder_decoder_gives_back_what_it_was_given(shared_checkpoints: Path, photo: np.ndarray) -> None:
    generator = load(shared_checkpoints / "cifar10_autoencoder" / "autoencoder.pkl")
    given = _input(generator.spec.inputs[0], photo)
    flat = given.numpy().mean(axis=(2, 3), keepdims=True)
    assert _psnr_db(_pictures(generator, given), given.numpy()) > _psnr_db(flat, given.numpy()) + 6.0


def test_a_darkened_photo_comes_back_bright(shared_checkpoints: Path, photo: np.ndarray) -> None:
    generator = load(shared_checkpoints / "lowlight_sci" / "medium.pt")
    dark = _input(generator.spec.inputs[0], photo) * 0.25
    bright = _pictures(generator, dark)
    assert bright.mean() > 3 * dark.mean().item()
    assert np.corrcoef(bright.ravel(), photo.transpose(2, 0, 1).ravel())[0, 1] > 0.95  # the sky saturates


def test_faces_differ_from_latent_to_latent(shared_checkpoints: Path, photo: np.ndarray) -> None:
    for file in ("dcgan_faces32/generator_2.pth", "vae_celeba64/model.pt"):
        generator = load(shared_checkpoints / file)
        pictures = _pictures(generator, _input(generator.spec.inputs[0], photo))
        assert pictures.std(axis=0).mean() > 0.08  # a collapsed or saturated generator repeats one picture
