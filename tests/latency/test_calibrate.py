"""Correcting a model by whole generators, by hand-made numbers."""

import dataclasses

import pytest

from edgegen.latency import Anchor, LayerWork, Pass, calibrated, estimate, prediction_error

NORM = Pass(("norm",), 8, 8)


class PerMac:
    """A nanosecond for each multiply-accumulate, and for each value that a pass reads; 5 microseconds for a call."""

    label = "measured"

    def seconds(self, work: LayerWork) -> float:
        call = 5000 if work.kind == "input" else 0
        return 1e-9 * (work.macs + call + sum(item.values(work.outputs)[0] for item in work.passes))


def network(channels: int, norms: int) -> tuple[LayerWork, ...]:
    layer = LayerWork("conv", channels, channels, (3, 3), (1, 1), 1, 8, 8, passes=(NORM,) * norms)
    return (LayerWork("input", 3, 3, (1, 1), (1, 1), 1, 8, 8), layer, layer)


def anchors(layers: float, passes: float, call_s: float, networks) -> list[Anchor]:
    model, found = PerMac(), []
    for works in networks:
        weighted = sum(model.seconds(dataclasses.replace(w, passes=())) for w in works if w.weighted)
        rest = estimate(model, works) - weighted
        found.append(Anchor(works, layers * weighted + passes * rest + call_s))
    return found


NETWORKS = [network(64, 0), network(8, 40), network(16, 1)]


@pytest.mark.parametrize(("layers", "passes", "call_s"), [(1.3, 1.0, 0.0), (0.7, 1.4, 2e-5), (1.0, 1.0, 1e-4)])
def test_three_anchors_give_back_the_scales_and_the_constant_they_were_made_with(layers, passes, call_s) -> None:
    found = calibrated(PerMac(), anchors(layers, passes, call_s, NETWORKS))
    for anchor in anchors(layers, passes, call_s, [network(32, 10), network(12, 3)]):
        assert estimate(found, anchor.works) == pytest.approx(
            anchor.seconds, rel=0.03
        )  # the pull towards one is weak, not nothing


def test_two_anchors_are_met_and_what_lies_between_is_close() -> None:
    made = anchors(1.5, 1.5, 1e-5, [network(64, 2), network(8, 2)])
    found = calibrated(PerMac(), made)
    assert [estimate(found, a.works) for a in made] == pytest.approx([a.seconds for a in made], rel=0.02)
    (between,) = anchors(1.5, 1.5, 1e-5, [network(24, 2)])
    assert estimate(found, between.works) == pytest.approx(between.seconds, rel=0.05)


def test_nothing_is_ever_below_zero() -> None:
    works = network(16, 2)
    found = calibrated(PerMac(), [Anchor(works, 1e-9), Anchor(network(64, 0), 1e-3)])
    assert min(found.layer_scale, found.pass_scale, found.call_s) >= 0
    assert all(found.seconds(work) >= 0 for work in works)


def test_without_anchors_the_model_stays_as_it_is() -> None:
    works = network(16, 2)
    assert estimate(calibrated(PerMac(), []), works) == pytest.approx(estimate(PerMac(), works))


def test_equal_anchors_give_equal_models() -> None:
    made = anchors(1.1, 0.9, 3e-6, NETWORKS)
    assert calibrated(PerMac(), made).facts() == calibrated(PerMac(), made).facts()


def test_a_corrected_model_says_where_its_estimates_come_from() -> None:
    assert calibrated(PerMac(), []).label == "measured"


def test_the_error_of_a_prediction_is_relative_to_what_was_measured() -> None:
    works = network(16, 0)
    facts = prediction_error(PerMac(), works, estimate(PerMac(), works) / 1.25).facts()
    assert facts["relative_error"] == pytest.approx(0.25) and facts["label"] == "measured"
    assert facts["predicted_ms"] == pytest.approx(1.25 * facts["measured_ms"])
