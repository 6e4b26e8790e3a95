"""The families of generators that edgegen recognises, in the order in which they are tried."""

from __future__ import annotations

from edgegen.load.families.autoencoder import Autoencoder
from edgegen.load.families.dcgan import Dcgan
from edgegen.load.families.dcgan_dense import DcganDense
from edgegen.load.families.johnson import Johnson
from edgegen.load.families.johnson_tf import JohnsonTf
from edgegen.load.families.lowlight_sci import LowlightSci
from edgegen.load.families.msrresnet import Msrresnet
from edgegen.load.families.resnet import ResnetGan
from edgegen.load.families.srresnet import Srresnet
from edgegen.load.families.srresnet_leaky import SrresnetLeaky
from edgegen.load.families.unet import UnetGan
from edgegen.load.families.vae_decoder import VaeDecoder
from edgegen.load.family import GeneratorFamily

FAMILIES: tuple[GeneratorFamily, ...] = (
    Johnson(), JohnsonTf(), ResnetGan(), UnetGan(), Srresnet(), SrresnetLeaky(), Msrresnet(), Dcgan(), DcganDense(),
    VaeDecoder(), Autoencoder(), LowlightSci(),
)  # fmt: skip
"""Each family reads its own names, so at most one matches; a test holds that."""


def all_families() -> tuple[GeneratorFamily, ...]:
    """Return FAMILIES and, behind them, those of installed packages (entry points in the group `edgegen.families`)."""
    from importlib.metadata import entry_points

    return (*FAMILIES, *(point.load()() for point in entry_points(group="edgegen.families")))
