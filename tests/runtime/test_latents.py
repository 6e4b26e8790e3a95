"""Latents are the same on every device and in every language."""

import numpy as np
import pytest
from scipy import stats

from edgegen.runtime.latents import draw, latent, normal, splitmix64, uniform
from edgegen.runtime.tensors import Kind, Layout, TensorSpec

NORMAL = TensorSpec("latent", Kind.LATENT, (128,), Layout.D)


def test_splitmix64_gives_the_published_sequence() -> None:
    # the sequence for seed 1234567 that implementations in other languages are checked against (Rosetta Code)
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert splitmix64(1234567, 5).tolist() == published


def test_golden_normal_values_of_seed_7() -> None:
    golden = [1.3649923, 0.14452122, -0.39652398, -0.22759631]
    assert np.allclose(normal(7, 4), golden, rtol=0, atol=1e-7)


def test_golden_uniform_values_of_seed_7() -> None:
    assert np.allclose(uniform(7, 3), [0.38982975, 0.01678829, 0.90076068], rtol=0, atol=1e-8)


def test_numpy_agrees_with_the_documented_formula_in_plain_integers() -> None:
    mask, seed = (1 << 64) - 1, 2**63 + 12345
    expected = []
    for i in range(20):
        z = (seed + (i + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        expected.append(z ^ (z >> 31))
    assert splitmix64(seed, 20).tolist() == expected


def test_a_latent_is_unit_normal() -> None:
    values = normal(3, 20_000)
    assert stats.kstest(values, "norm").pvalue > 0.01
    assert abs(np.corrcoef(values[::2], values[1::2])[0, 1]) < 0.03


def test_a_shorter_latent_is_the_start_of_a_longer_one() -> None:
    assert np.array_equal(normal(5, 7), normal(5, 20)[:7])


def test_a_bounded_latent_is_uniform_between_its_bounds() -> None:
    values = latent(TensorSpec("latent", Kind.LATENT, (5000,), Layout.D, low=-2.0, high=3.0), 1)
    assert stats.kstest(values[0], "uniform", args=(-2, 5)).pvalue > 0.01


def test_a_latent_has_a_batch_axis_and_the_type_of_its_spec() -> None:
    made = latent(TensorSpec("latent", Kind.LATENT, (4, 1, 1), Layout.CHW), 9)
    assert made.shape == (1, 4, 1, 1) and made.dtype == np.float32


def test_seeds_beyond_64_bits_wrap_around() -> None:
    assert np.array_equal(latent(NORMAL, 7), latent(NORMAL, 7 + (1 << 64)))


def test_two_inputs_of_one_generator_differ() -> None:
    assert not np.array_equal(draw(NORMAL, 7, 0), draw(NORMAL, 7, 1))


@pytest.mark.parametrize("seed", range(50))
def test_a_drawn_class_exists(seed: int) -> None:
    ids = draw(TensorSpec("class", Kind.CLASS, (1,), Layout.D, dtype="int64", low=0, high=9), seed)
    one_hot = draw(TensorSpec("class", Kind.CLASS, (10,), Layout.D), seed)
    assert ids.shape == (1, 1) and 0 <= ids[0, 0] <= 9
    assert one_hot.sum() == 1 and one_hot.argmax() == ids[0, 0]
