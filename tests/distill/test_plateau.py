"""What the curve of held-out quality says."""

import pytest

from edgegen.distill.plateau import has_stopped_improving, outlook, outlook_facts


def curve(psnr, steps=(0, 50, 100, 200, 300, 400, 500, 600, 700, 800)):
    return [{"step": step, "psnr_db": psnr(step), "ssim": 0.5} for step in steps]


def test_the_answer_lies_between_the_power_law_and_the_last_doubling():
    found = outlook(curve(lambda step: 30 - 40 * max(step, 1) ** -0.5))
    assert found is not None
    law, doubling = 40 * (800**-0.5 - 1600**-0.5), 40 * (400**-0.5 - 800**-0.5)
    assert found.gain_db == pytest.approx((law + doubling) / 2, abs=0.02)
    assert found.points == 8  # step 0 and the first eighth are left out
    assert found.text == "twice the steps would give about +0.5 dB (+-0.2)"


def test_a_logarithm_gains_the_same_with_each_doubling():
    found = outlook(curve(lambda step: 20 + 3 * max(step, 1) ** 0.001 / 0.001))
    assert found is not None and found.gain_db == pytest.approx(3 * 0.6931, abs=0.1)


def test_a_flat_curve_promises_nothing():
    found = outlook(curve(lambda step: 25.0 if step else 12.0))
    assert found is not None and "nothing that can be seen" in found.text


def test_a_curve_that_bends_down_at_its_end_promises_nothing_either():
    found = outlook(curve(lambda step: 20 + step / 100 - (step / 300) ** 2))
    assert found is not None and found.gain_db < 0 and "nothing" in found.text


def test_noise_widens_the_uncertainty():
    calm = outlook(curve(lambda step: 30 - 40 * max(step, 1) ** -0.5))
    noisy = outlook(curve(lambda step: 30 - 40 * max(step, 1) ** -0.5 + (0.4 if step % 200 else -0.4)))
    assert calm is not None and noisy is not None and noisy.uncertainty_db > 1.5 * calm.uncertainty_db


# Curves of real runs (DCGAN faces and VAE decoder, batch 8, cosine schedule), and the PSNR that a run of twice the steps reached.
DCGAN_200 = ((20, 16.41), (40, 20.80), (60, 23.90), (80, 24.85), (100, 25.80), (120, 26.74), (140, 27.42), (160, 27.79),
             (180, 28.00), (200, 28.09))  # fmt: skip
DCGAN_400 = ((40, 20.39), (80, 24.83), (120, 27.21), (160, 28.10), (200, 28.95), (240, 29.24), (280, 29.65), (320, 29.90),
             (360, 30.05), (400, 30.13))  # fmt: skip
VAE_200 = ((20, 13.49), (40, 14.35), (60, 17.36), (80, 20.71), (100, 22.24), (120, 23.18), (140, 23.80), (160, 24.18),
           (180, 24.29), (200, 24.36))  # fmt: skip


@pytest.mark.parametrize(
    ("points", "reached_db"),
    [(DCGAN_200, 29.81), (DCGAN_400, 31.44), (VAE_200, 26.28)],
    ids=["dcgan 200", "dcgan 400", "vae 200"],
)
def test_what_a_run_of_twice_the_steps_reached_lies_within_the_uncertainty(points, reached_db):
    found = outlook([{"step": step, "psnr_db": psnr_db} for step, psnr_db in points])
    assert found is not None
    assert abs(points[-1][1] + found.gain_db - reached_db) <= found.uncertainty_db


def test_too_few_points_say_so():
    points = curve(lambda step: 20.0, steps=(0, 200, 400))
    assert outlook(points) is None and outlook([]) is None
    assert outlook_facts(points)["text"] == "too few evaluations to say what more steps would give (3, at least 6)"
    assert outlook_facts(curve(lambda step: 30 - 40 * max(step, 1) ** -0.5))["gain_db"] > 0


def points(*pairs):
    return [{"step": step, "psnr_db": psnr_db, "ssim": ssim} for step, (psnr_db, ssim) in enumerate(pairs)]


def test_improvement_of_either_measure_keeps_a_training_going():
    flat = points((20, 0.5), (21, 0.6), (21.01, 0.6), (20.9, 0.6))
    assert has_stopped_improving(flat, 2)
    assert not has_stopped_improving(flat, 3)
    assert not has_stopped_improving(points((20, 0.5), (21, 0.6), (20.9, 0.601), (20.9, 0.6)), 2)
    assert not has_stopped_improving(points((20, 0.5), (21, 0.6), (21, 0.6), (21.1, 0.6)), 2)


def test_no_patience_means_no_end():
    assert not has_stopped_improving(points(*[(20, 0.5)] * 50), 0)
