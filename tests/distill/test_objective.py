"""The objective: which losses a step has, what they weigh, and that they do not depend on each other."""

import dataclasses

import pytest
import torch
from test_loop import KilledError, Recorder, run
from test_perceptual import heads, state
from tiny import CONFIG, SmoothImages, painter, same_weights
from torch import nn

from edgegen.distill import feature_losses, losses
from edgegen.distill.hardware import Arithmetic, open_hardware
from edgegen.distill.objective import Objective, Shown, needs_taps
from edgegen.distill.perceptual import load_perceptual
from edgegen.errors import RecipeError
from edgegen.recipe import AdversaryConfig, AugmentConfig, Balance, DistillConfig, LossConfig, Opponent
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec

OFF = LossConfig(l1=0.0, ssim=0.0, feature=0.0)
SPEC = ComponentSpec(
    "generator",
    (TensorSpec("z", Kind.LATENT, (8,), Layout.D),),
    (TensorSpec("picture", Kind.IMAGE, (3, 128, 128), Layout.CHW, low=-1.0, high=1.0),),
)
SCALES = torch.tensor([0.8, 0.5])
COMPARED = [name for name in dataclasses.asdict(LossConfig()) if name not in ("adversarial", "truth")]


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def shown(seed: int, count: int = 4, side: int = 128, channels: int = 5) -> Shown:
    """What a generator of 128x128 pictures with two tapped layers shows."""
    taps = [drawn(seed + 1, count, channels, 8, 8), drawn(seed + 2, count, channels, 4, 4)]
    return Shown(drawn(seed, count, 3, side, side) * 0.5, taps, [drawn(seed + 3 + i, *tap.shape) for i, tap in enumerate(taps)])


def part(view: Shown, where: slice) -> Shown:
    return Shown(view.image[where], [tap[where] for tap in view.taps], [tap[where] for tap in view.adapted])


def terms(weights: LossConfig, *, ours: Shown, theirs: Shown, network=None, **more) -> dict[str, torch.Tensor]:
    config = DistillConfig(batch=4, losses=weights)
    objective = Objective(config, SPEC, open_hardware(Arithmetic.F32, batch=4), network)
    return objective.terms((drawn(9, 4, 8),), ours, theirs, tap_scales=SCALES, parameters=[], **more)


def all_on() -> LossConfig:
    return LossConfig(**{name: 0.1 + 0.1 * index for index, name in enumerate(COMPARED)})


def test_a_term_is_the_weight_times_the_loss():
    ours, theirs = shown(1), shown(11)
    fake, real = (losses.visible(view.image, SPEC.outputs[0]) for view in (ours, theirs))
    weights = dataclasses.replace(OFF, l1=2.0, haar=0.5, total_variation=3.0, channel_mean=0.25)
    found = terms(weights, ours=ours, theirs=theirs)
    pairs = zip(ours.adapted, theirs.taps, SCALES, strict=True)
    expected = {
        "l1": 2.0 * losses.l1_loss(fake, real),
        "haar": 0.5 * losses.haar_loss(fake, real),
        "total_variation": 3.0 * losses.total_variation_loss(fake),
        "channel_mean": 0.25 * torch.stack([feature_losses.channel_mean_loss(*pair) for pair in pairs]).mean(),
    }
    assert found.keys() == expected.keys()
    assert all(found[name].item() == pytest.approx(value.item()) for name, value in expected.items())


@pytest.mark.parametrize("name", COMPARED)
def test_switching_one_loss_off_leaves_the_others_as_they_are(name):
    ours, theirs, network = shown(1, side=64), shown(11, side=64), load_perceptual(state())
    weights = dataclasses.replace(all_on(), haar=0.0)
    everything = terms(weights, ours=ours, theirs=theirs, network=network)
    without = terms(dataclasses.replace(weights, **{name: 0.0}), ours=ours, theirs=theirs, network=network)
    assert without.keys() == everything.keys() - {name}
    assert all(torch.equal(without[other], everything[other]) for other in without)


def test_losses_are_the_same_inside_a_bfloat16_run():
    ours, theirs = shown(1), shown(11)
    network = load_perceptual(state() | heads())
    exact = terms(all_on(), ours=ours, theirs=theirs, network=network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = terms(all_on(), ours=ours, theirs=theirs, network=network)
    assert all(loss.dtype is torch.float32 for loss in inside.values())
    assert {name: loss.item() for name, loss in inside.items()} == {name: loss.item() for name, loss in exact.items()}


def test_a_picture_in_bfloat16_gives_float32_losses():
    rounded = [Shown(view.image.bfloat16(), [t.bfloat16() for t in view.taps], [t.bfloat16() for t in view.adapted])
               for view in (shown(1), shown(11))]  # fmt: skip
    found = terms(all_on(), ours=rounded[0], theirs=rounded[1], network=load_perceptual(state()))
    assert all(loss.dtype is torch.float32 and loss.isfinite() for loss in found.values())


def test_means_over_equal_shards_are_those_of_the_batch_but_for_latent_directions():
    ours, theirs, network = shown(1), shown(11), load_perceptual(state())
    whole = terms(all_on(), ours=ours, theirs=theirs, network=network)
    halves = [terms(all_on(), ours=part(ours, half), theirs=part(theirs, half), network=network)
              for half in (slice(0, 2), slice(2, 4))]  # fmt: skip
    for name in whole.keys() - {"latent_direction"}:
        assert whole[name].item() == pytest.approx((halves[0][name] + halves[1][name]).item() / 2, rel=1e-5), name


def test_gram_is_taken_on_tapped_layers_without_a_perceptual_network_and_on_its_maps_with_one():
    ours, theirs = shown(1), shown(11)
    weights = dataclasses.replace(OFF, gram=1.0)
    taps = zip(ours.adapted, theirs.taps, strict=True)
    expected = torch.stack([feature_losses.gram_loss(*pair) for pair in taps]).mean()
    assert terms(weights, ours=ours, theirs=theirs)["gram"].item() == pytest.approx(expected.item())
    assert terms(weights, ours=ours, theirs=theirs, network=load_perceptual(state()))["gram"] != expected
    assert needs_taps(weights, judged=False) and not needs_taps(weights, judged=True)


def test_heads_of_lpips_make_the_perceptual_loss_lpips():
    ours, theirs = shown(1), shown(11)
    network = load_perceptual(state() | heads())
    maps = [network(losses.visible(view.image, SPEC.outputs[0])) for view in (ours, theirs)]
    found = terms(dataclasses.replace(OFF, perceptual=2.0), ours=ours, theirs=theirs, network=network)
    assert found["perceptual"].item() == pytest.approx(2 * feature_losses.lpips_loss(*maps, network.heads).item())


def test_haar_is_left_out_of_small_pictures_and_that_is_told():
    hardware = open_hardware(Arithmetic.F32, batch=4)
    objective = Objective(DistillConfig(batch=4, losses=LossConfig(haar=1.0, feature=0.0)), SPEC, hardware)
    ours, theirs = shown(1, side=127), shown(11, side=127)
    assert objective.terms((), ours, theirs, tap_scales=SCALES, parameters=[]).keys() == {"l1", "ssim"}
    assert objective.facts() == {"losses_left_out": ["haar"]}
    assert objective.notes() == ["haar left out: no layers to compare, or pictures below 128 pixels"]


def test_losses_of_which_none_applies_are_refused():
    with pytest.raises(RecipeError, match="none of the losses applies to this generator: feature, alignment"):
        terms(dataclasses.replace(OFF, feature=1.0, alignment=1.0), ours=Shown(shown(1).image), theirs=Shown(shown(2).image))


@pytest.mark.parametrize(
    ("weights", "network", "spec", "fact", "hint"),
    [
        (LossConfig(perceptual=1.0), False, SPEC, "losses.perceptual is set but there is no network", "--perceptual FILE"),
        (LossConfig(), True, SPEC, "a perceptual network is given but no loss uses it", "losses.perceptual"),
        (LossConfig(latent_direction=1.0), False, painter(4, seed=1).spec, "starts from no latent", "set it to 0"),
    ],
    ids=["no network", "unused network", "no latent"],
)
def test_a_loss_that_the_generator_cannot_have_is_refused(weights, network, spec, fact, hint):
    with pytest.raises(RecipeError) as caught:
        Objective(
            DistillConfig(batch=4, losses=weights), spec, open_hardware(Arithmetic.F32, batch=4),
            load_perceptual(state()) if network else None,
        )  # fmt: skip
    assert fact in caught.value.message
    assert hint in caught.value.hint


def test_latent_directions_need_two_samples():
    with pytest.raises(RecipeError, match="a process gets one"):
        Objective(DistillConfig(batch=1, losses=LossConfig(latent_direction=1.0)), SPEC, open_hardware(Arithmetic.F32, batch=1))


def balanced(weights: LossConfig, start: nn.Conv2d, goal: nn.Conv2d) -> tuple[Objective, dict[str, float]]:
    """Return the objective after one balanced step, and the length of each term's gradient in the weights of `start`."""
    config = DistillConfig(batch=4, losses=weights, balance=Balance.GRADIENT)
    objective = Objective(config, SPEC, open_hardware(Arithmetic.F32, batch=4))
    seen = SmoothImages().train(0, 4, AugmentConfig())[0]
    parameters = list(start.parameters())
    found = objective.terms((), Shown(start(seen)), Shown(goal(seen).detach()), tap_scales=SCALES, parameters=parameters)
    gradients = {name: torch.autograd.grad(term, parameters, retain_graph=True) for name, term in found.items()}
    return objective, {name: float(nn.utils.get_total_norm(gradient)) for name, gradient in gradients.items()}


def test_balanced_gradients_stand_in_the_ratio_of_the_weights():
    weights = LossConfig(l1=2.0, ssim=0.5, gradient=0.25, feature=0.0)
    objective, lengths = balanced(weights, nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3))
    assert objective.factors["l1"] == pytest.approx(1.0)
    assert lengths["ssim"] / lengths["l1"] == pytest.approx(0.25, rel=1e-4)
    assert lengths["gradient"] / lengths["l1"] == pytest.approx(0.125, rel=1e-4)


def test_the_balance_of_a_loss_does_not_depend_on_the_others():
    start, goal = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
    alone, _ = balanced(dataclasses.replace(OFF, ssim=0.5), start, goal)
    among, _ = balanced(LossConfig(feature=0.0, gradient=1.0), start, goal)
    assert alone.factors["ssim"] == among.factors["ssim"]


def test_a_student_that_is_the_teacher_has_no_balance_to_find():
    same = nn.Conv2d(3, 3, 3)
    objective, _ = balanced(LossConfig(feature=0.0, gradient=1.0), same, same)
    assert objective.factors == {"l1": 1.0, "ssim": 1.0, "gradient": 1.0}


def test_a_balanced_run_resumes_to_the_same_bits_and_tells_its_factors(tmp_path):
    class Listener(Recorder):
        def note(self, text: str) -> None:
            notes.append(text)

    notes: list[str] = []
    config = dataclasses.replace(CONFIG, balance=Balance.GRADIENT)
    whole = run(tmp_path / "whole", config=config, progress=Listener())
    with pytest.raises(KilledError):
        run(tmp_path / "cut", config=config, progress=Listener(last=13))
    resumed = run(tmp_path / "cut", config=config)
    assert same_weights(whole, resumed)
    facts = whole.lineage[-1].facts
    assert facts == resumed.lineage[-1].facts
    assert facts["loss_balance"].keys() == {"l1", "ssim", "feature"}
    assert notes[0].startswith("distill: losses balanced: l1 x1, ssim x")
    assert not same_weights(whole, run(tmp_path / "plain"))


def test_every_loss_of_a_picture_generator_trains_together(tmp_path):
    weights = dataclasses.replace(all_on(), latent_direction=0.0, haar=0.0, adversarial=0.05)
    config = dataclasses.replace(CONFIG, losses=weights, adversary=AdversaryConfig(discriminator=Opponent.NEW))
    network = load_perceptual(state())
    facts = run(tmp_path / "f32", config=config, perceptual=network, steps=4).lineage[-1].facts
    fast = run(tmp_path / "bf16", config=config, perceptual=network, steps=4, arithmetic=Arithmetic.BF16).lineage[-1].facts
    assert "losses_left_out" not in facts
    assert fast["loss"] == pytest.approx(facts["loss"], rel=0.05)


def test_a_new_discriminator_plays_without_a_checkpoint_and_resumes_to_the_same_bits(tmp_path):
    config = dataclasses.replace(
        CONFIG, losses=LossConfig(adversarial=0.1), adversary=AdversaryConfig(discriminator=Opponent.NEW)
    )
    whole = run(tmp_path / "whole", config=config)
    with pytest.raises(KilledError):
        run(tmp_path / "cut", config=config, progress=Recorder(last=12))
    assert same_weights(whole, run(tmp_path / "cut", config=config))
