"""One small generator per family and variant, and the names under which its authors would have saved it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from edgegen.load.families import (
    autoencoder,
    dcgan,
    dcgan_dense,
    johnson,
    johnson_tf,
    lowlight_sci,
    msrresnet,
    resnet,
    srresnet,
    srresnet_leaky,
    unet,
    vae_decoder,
)


def _same(key: str) -> str:
    return key


@dataclasses.dataclass(frozen=True)
class Case:
    """A generator of a family: `hyperparameters` build it, `as_saved` turns its tensor names into those of its authors."""

    name: str
    family: str
    build: Callable[..., nn.Module]
    hyperparameters: dict[str, Any]
    resolution: tuple[int, int] | None = None
    as_saved: Callable[[str], str] = _same

    def module(self) -> nn.Module:
        """Return the generator with seeded weights and running statistics that differ from their defaults."""
        generator = torch.Generator().manual_seed(7)
        made = self.build(**self.hyperparameters).eval()
        for name, tensor in made.state_dict().items():
            if tensor.is_floating_point():
                spread = 0.5 + torch.rand(tensor.shape, generator=generator) if name.endswith("running_var") else None
                tensor.copy_(spread if spread is not None else torch.randn(tensor.shape, generator=generator) * 0.2)
        return made

    def state(self) -> dict[str, torch.Tensor]:
        """Return the state as its authors would have saved it."""
        return {self.as_saved(name): tensor for name, tensor in self.module().state_dict().items()}


def _tf_names(key: str) -> str:
    return key.replace("norm.weight", "norm.scale").replace("norm.bias", "norm.shift")


def _vae_names(key: str) -> str:
    moved = re.sub(r"^convT(\d+)", lambda m: "convT_64" if m.group(1) == "1" else f"convT{int(m.group(1)) - 1}", key)
    return f"decoder.{moved}"


def _resnet(**changes: Any) -> dict[str, Any]:
    plain = {"in_channels": 3, "out_channels": 3, "widths": [4, 8, 12], "blocks": 2, "norm": "instance", "padding": "reflect",
             "block_padding": "reflect", "kernels": [7, 3, 7], "up": "transposed", "up_kernel": 3, "bias": True, "up_bias": True,
             "head_bias": True, "dropout": False}  # fmt: skip
    return {**plain, **changes}


def _unet(**changes: Any) -> dict[str, Any]:
    plain = {"in_channels": 3, "out_channels": 3, "widths": [4, 8, 12, 12, 12], "norm": "batch", "bias": False,
             "first_bias": False, "last_bias": True}  # fmt: skip
    return {**plain, **changes}


def _srresnet(**changes: Any) -> dict[str, Any]:
    plain = {"in_channels": 3, "out_channels": 3, "width": 8, "blocks": 2, "kernels": [9, 9], "norm": "batch", "middle": "prelu",
             "shared_slope": True, "factors": [2, 2]}  # fmt: skip
    return {**plain, **changes}


def _unit(width: int, kernel: int, norm: str = "none", *, norm_first: bool = False, bias: bool = True) -> dict[str, Any]:
    return {"width": width, "kernel": kernel, "norm": norm, "norm_first": norm_first, "bias": bias}


def _coder(encoder: list[dict], decoder: list[dict], head: str) -> dict[str, Any]:
    return {"in_channels": 3, "encoder": encoder, "decoder": decoder, "head": head}


PLAIN_JOHNSON = {
    "in_channels": 3,
    "out_channels": 3,
    "widths": [4, 8, 12],
    "kernels": [9, 3, 3, 3, 3, 9],
    "blocks": 2,
    "affine": True,
}
PLAIN_STYLE = {"in_channels": 3, "out_channels": 3, "widths": [4, 8, 12], "kernels": [9, 3, 3, 3, 3, 9], "blocks": 2}
PLAIN_DENSE = {"latent": 10, "base": 2, "widths": [16, 8, 3], "kernels": [4, 4], "norms": ["batch", "none"],
               "biases": [False, False], "stem_bias": True}  # fmt: skip
PLAIN_LEAKY = {"in_channels": 3, "out_channels": 3, "width": 8, "blocks": 2, "kernels": [9, 9], "norm": "instance-affine",
               "bias": False, "factors": [2, 2]}  # fmt: skip

JOHNSON = ("johnson", johnson.TransformerNet)
STYLE = ("johnson-tf", johnson_tf.StyleNet)
RESNET = ("resnet", resnet.ResnetGenerator)
UNET = ("unet", unet.UnetGenerator)
SRGAN = ("srresnet", srresnet.SrganGenerator)
LEAKY = ("srresnet-leaky", srresnet_leaky.LeakyGenerator)
MSR = ("msrresnet", msrresnet.MsrGenerator)
DCGAN = ("dcgan", dcgan.DcganGenerator)
DENSE = ("dcgan-dense", dcgan_dense.DenseGenerator)
VAE = ("vae-decoder", vae_decoder.Decoder)
CODER = ("autoencoder", autoencoder.EncoderDecoder)
LIGHT = ("lowlight-sci", lowlight_sci.EnhanceNetwork)

CASES = [
    Case("johnson", *JOHNSON, PLAIN_JOHNSON, (32, 48)),
    Case("johnson, three downs", *JOHNSON,
         {**PLAIN_JOHNSON, "widths": [4, 6, 8, 10], "kernels": [7, 3, 3, 3, 3, 3, 3, 5], "blocks": 1}, (64, 64)),
    Case("johnson, no affine", *JOHNSON, {**PLAIN_JOHNSON, "affine": False}, (32, 32)),
    Case("style", *STYLE, PLAIN_STYLE, (32, 48), _tf_names),
    Case("style, wide and shallow", *STYLE,
         {**PLAIN_STYLE, "widths": [6, 10], "kernels": [5, 3, 5, 7], "blocks": 3}, (32, 32), _tf_names),
    Case("cyclegan", *RESNET, _resnet(), (32, 48)),
    Case("cyclegan, affine", *RESNET, _resnet(norm="instance-affine", blocks=3), (32, 32)),
    Case("pix2pix resnet, batch norm", *RESNET, _resnet(norm="batch", bias=False, up_bias=False), (32, 32)),
    Case("cyclegan, dropout", *RESNET, _resnet(dropout=True), (32, 32)),
    Case("cyclegan, zero padding", *RESNET, _resnet(padding="zero", block_padding="zero"), (32, 32)),
    Case("cyclegan, zero padding in blocks", *RESNET, _resnet(block_padding="zero", dropout=True), (32, 32)),
    Case("cyclegan, nearest resize", *RESNET, _resnet(up="nearest"), (32, 32)),
    Case("cyclegan, bilinear resize", *RESNET, _resnet(up="bilinear", norm="batch", bias=False), (32, 32)),
    Case("cyclegan, no norm", *RESNET, _resnet(norm="none"), (32, 32)),
    Case("cyclegan, 4x4 kernels", *RESNET, _resnet(kernels=[7, 4, 7], up_kernel=4), (32, 32)),
    Case("resnet from labels", *RESNET, _resnet(in_channels=5), (32, 32)),
    Case("cyclegan, other block name", *RESNET, _resnet(), (32, 32), lambda k: k.replace("conv_block", "block")),
    Case("unet", *UNET, _unet(), (32, 64)),
    Case("unet, instance norm", *UNET, _unet(norm="instance", bias=True, first_bias=True), (32, 32)),
    Case("unet, no norm", *UNET, _unet(norm="none"), (32, 32)),
    Case("unet from labels, seven levels", *UNET,
         _unet(in_channels=12, widths=[4, 6, 8, 8, 8, 8, 8]), (128, 128)),
    Case("srgan x4", *SRGAN, _srresnet(), (16, 24)),
    Case("srgan x2, affine instance norm", *SRGAN, _srresnet(norm="instance-affine", factors=[2]), (16, 16)),
    Case("srgan x8, batch norm in the middle", *SRGAN, _srresnet(middle="batch", factors=[2, 2, 2]), (16, 16)),
    Case("srgan x3 without norm, a slope per channel", *SRGAN,
         _srresnet(norm="none", shared_slope=False, factors=[3], kernels=[5, 3]), (16, 16)),
    Case("srgan, instance norms named in1", *SRGAN, _srresnet(norm="instance-affine"), (16, 16),
         lambda k: k.replace(".bn", ".in")),
    Case("srresnet, leaky", *LEAKY, PLAIN_LEAKY, (16, 24),
         lambda k: k.replace("upscale.", "upscale4x.")),
    Case("srresnet, leaky x2, batch norm and bias", *LEAKY,
         {**PLAIN_LEAKY, "norm": "batch", "bias": True, "factors": [2]}, (16, 16), lambda k: re.sub(r"\.in([12])", r".bn\1", k)),
    Case("msrresnet", *MSR,
         {"in_channels": 3, "out_channels": 3, "width": 8, "blocks": 2, "factors": [2, 2]}, (16, 24)),
    Case("dcgan 16", *DCGAN,
         {"latent": 10, "widths": [16, 8, 3], "kernels": [4, 4, 4], "norm": "batch", "bias": False}),
    Case("dcgan, gray, no norm", *DCGAN,
         {"latent": 6, "widths": [16, 12, 8, 1], "kernels": [2, 4, 6, 4], "norm": "none", "bias": True}, None,
         lambda k: k.replace("main.", "net_of_mine.")),
    Case("dcgan, dense", *DENSE, PLAIN_DENSE, None, lambda k: k.replace("stem.", "fc1.")),
    Case("dcgan, dense, other names", *DENSE, {**PLAIN_DENSE, "biases": [True, True], "base": 4}, None,
         lambda k: k.replace("stem.", "fc.").replace("conv", "t_conv")),
    Case("vae 32", *VAE, {"dense": [5, 12, 128], "base": 4, "widths": [8, 8, 6, 3], "kernels": [4, 4, 4]},
         None, lambda k: f"decoder.{k}"),
    Case("vae 64", *VAE,
         {"dense": [5, 12, 12, 128], "base": 4, "widths": [8, 8, 8, 6, 1], "kernels": [4, 4, 4, 4]}, None, _vae_names),
    Case("patches", *CODER,
         _coder([_unit(8, 4), _unit(12, 3)], [_unit(8, 3), _unit(3, 4)], "sigmoid"), (20, 32)),
    Case("plain coder", *CODER,
         _coder([_unit(8, 4), _unit(12, 4), _unit(16, 4)], [_unit(12, 4), _unit(8, 4), _unit(3, 4)], "sigmoid"), (32, 48)),
    Case("3-channel bottleneck", *CODER,
         _coder([_unit(8, 4), _unit(16, 4, "batch"), _unit(3, 4, "batch")],
                [_unit(16, 4, "batch", norm_first=True, bias=False), _unit(8, 4, "batch", norm_first=True), _unit(3, 4)], "tanh"),
         (32, 32)),
    Case("3x3 coder", *CODER,
         _coder([_unit(8, 3, "batch", norm_first=True), _unit(12, 3)],
                [_unit(8, 3, "batch", norm_first=True), _unit(3, 3)], "tanh"),
         (16, 16)),
    Case("low light", *LIGHT, {"image_channels": 3, "width": 3, "blocks": 1}, (17, 23),
         lambda k: f"enhance.{k}"),
    Case("low light, bare and deep", *LIGHT, {"image_channels": 3, "width": 6, "blocks": 3}, (16, 16)),
]  # fmt: skip


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    """Every small generator in turn."""
    return request.param


@pytest.fixture
def cases() -> dict[str, Case]:
    """All small generators by name."""
    return {case.name: case for case in CASES}
