"""Rebuild a discriminator from the names and shapes of its tensors, cut it down, or draw a new one: stacks of 4x4 convolutions.

Three endings are known: a linear layer or a convolution without bias that covers the whole map (DCGAN: one logit per image),
and two convolutions of stride 1, the last with a bias (PatchGAN of pix2pix and CycleGAN: one logit per patch). Every other
convolution halves. LeakyReLU follows each but the last, behind the normalisation if there is one.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping

import torch
from torch import nn

from edgegen.errors import CheckpointError, RecipeError

_SLOPE = 0.2  # of LeakyReLU, in DCGAN, pix2pix and CycleGAN alike
_HINT = "give a DCGAN or PatchGAN discriminator of 4x4 convolutions, or set losses.adversarial to 0"
_WIDTH, _LEAST_WIDTH = 64, 8  # of the first layer: pix2pix's, and the least that a new or shrunk one keeps
_Groups = dict[str, dict[str, torch.Tensor]]


class Discriminator(nn.Module):
    """A stack of layers that maps images (N, C, H, W), in the generator's own value range, to logits (N, ...)."""

    def __init__(self, layers: list[nn.Module], in_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.in_channels = in_channels

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return unbounded logits: positive means real."""
        return self.layers(images)


def load_discriminator(state: Mapping[str, torch.Tensor], resolution: tuple[int, int]) -> nn.Module:
    """Return the discriminator of images of `resolution` (height, width) whose tensors are `state`, float32, eval mode.

    Raises CheckpointError naming the tensor that is not of a known stack, or the size that does not fit.
    """
    groups = _grouped(state)
    names = [name for name, tensors in groups.items() if tensors["weight"].ndim > 1]
    _check_stack(groups, names)
    geometry = _geometry([groups[name] for name in names], resolution)
    layers: list[nn.Module] = []
    for index, name in enumerate(names):
        layers.extend(_weighted(groups[name], *geometry[index]))
        following = names[index + 1] if index + 1 < len(names) else None
        layers.extend(_norm_between(groups, name, following))
        if following is not None:
            layers.append(nn.LeakyReLU(_SLOPE))
    return Discriminator(layers, int(groups[names[0]]["weight"].shape[1])).eval()


def new_discriminator(in_channels: int, side: int, *, share: float, seed: int) -> Discriminator:
    """Return an untrained PatchGAN for pictures of at least `side` pixels in [-1, 1]: up to three halvings, one logit per patch.

    Source: pix2pix (Isola et al. 2017), 64 channels that double; times `share`, the student's part of the teacher's width, as an
    opponent must shrink with the student (GCC, Li et al. 2021). It sees the picture alone: what the input asks for, the losses
    against the teacher tell. Without normalisation: R1 steadies it, and a picture's logits do not depend on its batch.
    """
    if side < 8:
        raise RecipeError(f"a new discriminator cannot judge pictures of {side} pixels", hint="raise augment.crop to 8 or more")
    random = torch.Generator().manual_seed(seed)
    halvings = min(3, side.bit_length() - 3)
    layers: list[nn.Module] = []
    before = in_channels
    for index in range(halvings + 1):
        width = max(_LEAST_WIDTH, round(_WIDTH * share * 2**index / 8) * 8)
        layers += [nn.Conv2d(before, width, 4, 2 if index < halvings else 1, 1), nn.LeakyReLU(_SLOPE)]
        before = width
    layers.append(nn.Conv2d(before, 1, 4, 1, 1))
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, a=_SLOPE, generator=random)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return Discriminator(layers, in_channels).eval()


def shrink_discriminator(discriminator: Discriminator, share: float) -> Discriminator:
    """Return a copy with about `share` of the channels between its layers, at least 8: those of the largest weights.

    A channel's weight is the length of its filter times the factor of the normalisation behind it, as in network slimming.
    """
    layers, kept = list(discriminator.layers), torch.arange(discriminator.in_channels)
    last = max(index for index, layer in enumerate(layers) if isinstance(layer, (nn.Conv2d, nn.Linear)))
    made: list[nn.Module] = []
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            inputs = kept
            kept = torch.arange(layer.out_channels) if index == last else _strongest(layer, layers[index + 1], share)
            made.append(_cut_conv(layer, inputs, kept))
        elif isinstance(layer, nn.Linear):
            before = next(earlier.out_channels for earlier in layers[index::-1] if isinstance(earlier, nn.Conv2d))
            weight = layer.weight.detach().view(layer.out_features, before, -1)[:, kept].flatten(1)
            linear = nn.Linear(weight.shape[1], layer.out_features, bias=layer.bias is not None)
            made.append(_filled(linear, {**layer.state_dict(), "weight": weight}))
        elif isinstance(layer, (nn.BatchNorm2d, nn.InstanceNorm2d)):
            norm = type(layer)(len(kept), affine=layer.affine, track_running_stats=layer.track_running_stats)
            made.append(_filled(norm, {name: t[kept] if t.ndim else t for name, t in layer.state_dict().items()}))
        else:
            made.append(copy.deepcopy(layer))
    return Discriminator(made, discriminator.in_channels).eval()


def _strongest(layer: nn.Conv2d, behind: nn.Module, share: float) -> torch.Tensor:
    """Return the output channels to keep, in order."""
    strength = layer.weight.detach().flatten(1).norm(dim=1)
    if isinstance(behind, (nn.BatchNorm2d, nn.InstanceNorm2d)) and behind.affine:
        strength = strength * behind.weight.detach().abs()
    count = min(len(strength), max(_LEAST_WIDTH, round(len(strength) * share)))
    return strength.argsort(descending=True, stable=True)[:count].sort().values


def _cut_conv(layer: nn.Conv2d, inputs: torch.Tensor, outputs: torch.Tensor) -> nn.Module:
    conv = nn.Conv2d(len(inputs), len(outputs), 4, layer.stride, layer.padding, bias=layer.bias is not None)  # type: ignore[arg-type]
    tensors = {"weight": layer.weight.detach()[outputs][:, inputs]}
    return _filled(conv, tensors if layer.bias is None else {**tensors, "bias": layer.bias.detach()[outputs]})


def _grouped(state: Mapping[str, torch.Tensor]) -> _Groups:
    """Return layer name -> its tensors, in the order of the state dict."""
    groups: _Groups = {}
    for key, tensor in state.items():
        name, _, field = key.rpartition(".")
        groups.setdefault(name, {})[field] = tensor
    for name, tensors in groups.items():
        if "weight" not in tensors:
            raise CheckpointError(f"the discriminator's '{name}' has {', '.join(tensors)} but no weight", hint=_HINT)
    return groups


def _check_stack(groups: _Groups, names: list[str]) -> None:
    if not names or groups[names[0]]["weight"].ndim != 4:
        raise CheckpointError("the discriminator does not start with a convolution", hint=_HINT)
    for index, name in enumerate(names):
        shape, is_last = tuple(groups[name]["weight"].shape), index == len(names) - 1
        if not (len(shape) == 4 and shape[2:] == (4, 4)) and not (len(shape) == 2 and is_last):
            raise CheckpointError(f"the discriminator's '{name}.weight' of shape {shape} is not a 4x4 convolution", hint=_HINT)


def _geometry(stack: list[dict[str, torch.Tensor]], resolution: tuple[int, int]) -> list[tuple[int, int]]:
    """Return (stride, padding) of each layer of `stack`, found from the ending that fits `resolution`."""
    last, halvings = stack[-1], len(stack) - 1
    height, width = (side >> halvings for side in resolution)
    if last["weight"].ndim == 2:
        fits = last["weight"].shape[1] == stack[-2]["weight"].shape[0] * height * width
        ending = [(1, 0)]
    elif "bias" not in last:
        fits, ending = (height, width) == (4, 4), [(1, 0)]
    else:
        fits, ending = len(stack) > 2 and min(height, width) * 2 > 2, [(1, 1), (1, 1)]
    if not fits:
        raise CheckpointError(
            f"the discriminator does not fit images of {resolution[1]}x{resolution[0]}", hint="give one of that size"
        )
    return [(2, 1)] * (len(stack) - len(ending)) + ending


def _weighted(tensors: dict[str, torch.Tensor], stride: int, padding: int) -> list[nn.Module]:
    weight, has_bias = tensors["weight"], "bias" in tensors
    if weight.ndim == 2:
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=has_bias)
        return [nn.Flatten(), _filled(linear, tensors)]
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 4, stride, padding, bias=has_bias)
    return [_filled(conv, tensors)]


def _norm_between(groups: _Groups, name: str, following: str | None) -> list[nn.Module]:
    """Return the normalisation behind layer `name`: what is stored there, or the InstanceNorm that a gap in the numbers tells."""
    ordered = list(groups)
    stop = ordered.index(following) if following is not None else len(ordered)
    stored = [groups[between] for between in ordered[ordered.index(name) + 1 : stop]]
    if stored:
        channels = len(stored[0]["weight"])
        kind = nn.BatchNorm2d(channels) if "running_mean" in stored[0] else nn.InstanceNorm2d(channels, affine=True)
        return [_filled(kind, stored[0])]
    here, there = _numbered(name), _numbered(following or "")
    is_gap = here[0] == there[0] and there[1] - here[1] == 3  # convolution, normalisation, activation
    return [nn.InstanceNorm2d(len(groups[name]["weight"]))] if is_gap else []


def _numbered(name: str) -> tuple[str, int]:
    """Split "model.11" into ("model.", 11); the number is 0 where there is none."""
    number = re.search(r"\d*$", name)
    digits = number.group() if number else ""
    return name.removesuffix(digits), int(digits or 0)


def _filled(layer: nn.Module, tensors: dict[str, torch.Tensor]) -> nn.Module:
    layer.load_state_dict({field: tensor.float() if tensor.is_floating_point() else tensor for field, tensor in tensors.items()})
    return layer
