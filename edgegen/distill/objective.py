"""What a training step makes small: the losses that the recipe switches on, each with its weight, by name.

A loss depends on its own setting and on nothing that another one draws or stores, so switching one off leaves the others as they
are. Losses are computed in float32 whatever the networks compute in.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from edgegen.distill.adversary import Adversary
from edgegen.distill.feature_losses import alignment_loss, channel_mean_loss, feature_loss, gram_loss, lpips_loss, perceptual_loss
from edgegen.distill.hardware import Hardware
from edgegen.distill.losses import (
    charbonnier_loss,
    gradient_loss,
    haar_loss,
    l1_loss,
    latent_direction_loss,
    ms_ssim_loss,
    ssim_loss,
    total_variation_loss,
    visible,
)
from edgegen.distill.perceptual import PerceptualNetwork
from edgegen.errors import RecipeError
from edgegen.recipe import Balance, DistillConfig, LossConfig
from edgegen.spec import ComponentSpec, Kind

if TYPE_CHECKING:
    from edgegen.data import Inputs
    from edgegen.distill.feed import Feed

HAAR_SIDE = 128
"""The shortest side in pixels from which Wavelet KD gains: below, the high bands hold most of the picture already."""

_PICTURES = {
    "l1": l1_loss,
    "charbonnier": charbonnier_loss,
    "ssim": ssim_loss,
    "gradient": gradient_loss,
    "ms_ssim": ms_ssim_loss,
    "haar": haar_loss,
    "latent_direction": latent_direction_loss,
}
_FACTORS = (1e-2, 1e2)  # a student that starts close to its teacher has hardly any gradient in some losses: not to be believed
_LIFT = 256.0  # keeps small gradients inside float16; a power of two changes nothing elsewhere


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """What a generator shows of a batch: its image (N, C, H, W), in its own value range, and its tapped maps (N, C', H', W').

    `adapted` are the student's maps behind the adapters, with the teacher's channels.
    """

    image: torch.Tensor
    taps: Sequence[torch.Tensor] = ()
    adapted: Sequence[torch.Tensor] = ()


def needs_taps(losses: LossConfig, *, judged: bool) -> bool:
    """Return whether a loss compares tapped layers. `judged`: a perceptual network is there, whose maps `gram` takes instead."""
    return any((losses.feature, losses.alignment, losses.channel_mean, losses.gram and not judged))


def check_objective(config: DistillConfig, spec: ComponentSpec, perceptual: PerceptualNetwork | None) -> None:
    """Raise RecipeError for a loss that the generator of `spec` cannot have, and for a perceptual network that is not used."""
    losses, channels = config.losses, spec.outputs[0].shape[0]
    if losses.perceptual and perceptual is None:
        raise RecipeError("losses.perceptual is set but there is no network", hint="give its weights: --perceptual FILE")
    if perceptual is not None and not (losses.perceptual or losses.gram):
        raise RecipeError("a perceptual network is given but no loss uses it", hint="set losses.perceptual or losses.gram")
    if perceptual is not None and channels not in (1, 3):
        raise RecipeError(f"the perceptual network sees colours, the pictures have {channels} channels", hint="leave it out")
    if losses.latent_direction and not any(tensor.kind is Kind.LATENT for tensor in spec.inputs):
        raise RecipeError(
            "losses.latent_direction is set but the generator starts from no latent", hint="set it to 0 for this generator"
        )


class Objective:
    """The weighted losses of one training. `factors` multiply the weights once the balance is found, at the first step."""

    def __init__(
        self, config: DistillConfig, spec: ComponentSpec, hardware: Hardware, perceptual: PerceptualNetwork | None = None
    ) -> None:
        check_objective(config, spec, perceptual)
        if config.losses.latent_direction and config.batch // hardware.process_count < 2:
            raise RecipeError("losses.latent_direction compares samples, a process gets one", hint="raise distill.batch")
        self._config, self._output, self._hardware = config, spec.outputs[0], hardware
        self._perceptual = perceptual.to(hardware.device) if perceptual is not None else None
        self._seen: tuple[Shown, list[torch.Tensor]] | None = None
        self.factors: dict[str, float] = {}
        self.left_out: tuple[str, ...] = ()

    def terms(
        self,
        batch: tuple[torch.Tensor, ...],
        ours: Shown,
        theirs: Shown,
        *,
        tap_scales: torch.Tensor,
        parameters: Sequence[torch.Tensor],
        adversary: Adversary | None = None,
        truth: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return the weighted losses that are switched on, by name. The first call finds the balance, if the recipe asks for it.

        `parameters` are the student's weights, `tap_scales` (taps,) the teacher's magnitudes, `truth` (N, C, H, W) in [0, 1].
        """
        with torch.autocast(self._hardware.device.type, enabled=False):
            pictures = visible(ours.image, self._output), visible(theirs.image, self._output)
            found = self._picture_losses(*pictures)
            found |= self._tap_losses(ours, theirs, tap_scales)
            found |= self._judged_losses(pictures, theirs)
            if truth is not None:
                found["truth"] = l1_loss(pictures[0], truth)
            if adversary is not None:
                found["adversarial"] = adversary.generator_loss(batch, ours.image.float())
            self._note_left_out(found)
            if self._config.balance is Balance.GRADIENT and not self.factors:
                self.factors = self._balance(found, l1_loss(*pictures), parameters)
            return {name: self._weight(name) * loss for name, loss in found.items()}

    def truth(self, inputs: Inputs | Feed, step: int) -> torch.Tensor | None:
        """Return this process's part of the true pictures of `step`; None if the recipe does not ask for them."""
        if not self._config.losses.truth:
            return None
        truth = inputs.train_truth(step, self._config.batch, self._config.augment)
        if truth is None:
            raise RecipeError(
                "distill.losses.truth is set, but the inputs have no truth", hint="only super-resolvers have; set it to 0"
            )
        return self._hardware.shard((truth,))[0]

    def notes(self) -> list[str]:
        """Return sentences about what the first step found: the balance, and losses that do not apply."""
        told = [f"{', '.join(self.left_out)} left out: no layers to compare, or pictures below {HAAR_SIDE} pixels"]
        balance = ", ".join(f"{name} x{factor:.3g}" for name, factor in self.factors.items())
        return (told if self.left_out else []) + ([f"losses balanced: {balance}"] if balance else [])

    def facts(self) -> dict[str, Any]:
        """Return what a record tells about the losses."""
        return {
            **({"loss_balance": dict(self.factors)} if self.factors else {}),
            **({"losses_left_out": list(self.left_out)} if self.left_out else {}),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resumed run needs."""
        return {"factors": dict(self.factors), "left_out": list(self.left_out)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.factors, self.left_out = dict(state["factors"]), tuple(state["left_out"])

    def _weight(self, name: str) -> float:
        return getattr(self._config.losses, name) * self.factors.get(name, 1.0)

    def _picture_losses(self, student: torch.Tensor, teacher: torch.Tensor) -> dict[str, torch.Tensor]:
        losses = self._config.losses
        is_small = min(student.shape[-2:]) < HAAR_SIDE
        wanted = [name for name in _PICTURES if getattr(losses, name) and not (name == "haar" and is_small)]
        found = {name: _PICTURES[name](student, teacher) for name in wanted}
        if losses.total_variation:
            found["total_variation"] = total_variation_loss(student)
        return found

    def _tap_losses(self, ours: Shown, theirs: Shown, scales: torch.Tensor) -> dict[str, torch.Tensor]:
        losses, found = self._config.losses, {}
        adapted = list(zip(ours.adapted, theirs.taps, scales, strict=True)) if ours.adapted else []
        if losses.feature and adapted:
            found["feature"] = torch.stack([feature_loss(*pair) for pair in adapted]).mean()
        if losses.channel_mean and adapted:
            found["channel_mean"] = torch.stack([channel_mean_loss(*pair) for pair in adapted]).mean()
        if losses.gram and adapted and self._perceptual is None:
            found["gram"] = torch.stack([gram_loss(mine, guide) for mine, guide, _ in adapted]).mean()
        if losses.alignment and ours.taps:
            pairs = zip(ours.taps, theirs.taps, strict=True)
            found["alignment"] = torch.stack([alignment_loss(*pair) for pair in pairs]).mean()
        return found

    def _judged_losses(self, pictures: tuple[torch.Tensor, torch.Tensor], theirs: Shown) -> dict[str, torch.Tensor]:
        """Return the losses on the maps of the perceptual network; the teacher's are computed once for all students of a step."""
        network, losses, found = self._perceptual, self._config.losses, {}
        if network is None:
            return found
        if self._seen is None or self._seen[0] is not theirs:
            with torch.no_grad():
                self._seen = theirs, network(pictures[1])
        ours, guides = network(pictures[0]), self._seen[1]
        if losses.perceptual:
            heads = network.heads
            found["perceptual"] = lpips_loss(ours, guides, heads[: len(ours)]) if heads else perceptual_loss(ours, guides)
        if losses.gram:
            found["gram"] = torch.stack([gram_loss(*pair) for pair in zip(ours, guides, strict=True)]).mean()
        return found

    def _note_left_out(self, found: dict[str, torch.Tensor]) -> None:
        wanted = [name for name, weight in dataclasses.asdict(self._config.losses).items() if weight]
        self.left_out = tuple(name for name in wanted if name not in found)
        if not found:
            raise RecipeError(
                f"none of the losses applies to this generator: {', '.join(self.left_out)}", hint="set distill.losses.l1 to 1"
            )

    def _balance(
        self, found: dict[str, torch.Tensor], reference: torch.Tensor, parameters: Sequence[torch.Tensor]
    ) -> dict[str, float]:
        """Return by what each loss must be multiplied for a gradient as long as that of L1, whether L1 is switched on or not.

        Gradients are those in the student's weights, averaged over processes: the one place where losses of pictures and of
        layers meet. As in GradNorm (Chen et al. 2018) at its first step; then the factors stay. The adversarial loss is left
        alone: its gradient grows as the discriminator learns. So is a loss without a gradient, as all are at the teacher itself.
        """
        length, factors = self._gradient_norm(reference, parameters), {}
        for name, loss in found.items():
            if name == "adversarial":
                continue
            ratio = length / max(self._gradient_norm(loss, parameters), 1e-30)
            factors[name] = min(max(ratio, _FACTORS[0]), _FACTORS[1]) if length and math.isfinite(ratio) else 1.0
        return factors

    def _gradient_norm(self, loss: torch.Tensor, parameters: Sequence[torch.Tensor]) -> float:
        gradients = torch.autograd.grad(loss * _LIFT, list(parameters), retain_graph=True, allow_unused=True)
        present = [gradient for gradient in gradients if gradient is not None]
        self._hardware.average(present)
        return float(torch.nn.utils.get_total_norm(present)) if present else 0.0
