"""Calibration sets: where a generator's inputs come from and what is done to them. Strict TOML in, frozen values out."""

from __future__ import annotations

import dataclasses
import enum

from edgegen.errors import RecipeError
from edgegen.resources import find_file
from edgegen.spec import ComponentSpec, Kind
from edgegen.strict_toml import matching, read_toml, required, within

_SCHEMA = "edgegen.calibration/1"
_AUTO = {Kind.IMAGE: "photos", Kind.LABEL_MAP: "label-maps", Kind.CLASS: "class-latents", Kind.TOKENS: "prompts"}
_DRAWN = (Kind.LATENT, Kind.CLASS)  # from seeds, without data
PICTURES = (Kind.IMAGE, Kind.LABEL_MAP)
"""The kinds of input that come from picture files."""


class Origin(str, enum.Enum):
    """Where inputs come from."""

    FOLDER = "folder"
    SYNTHETIC = "synthetic"
    RANDOM = "random"


class Fit(str, enum.Enum):
    """How a picture is brought to the input size: cover it and cut the edges off, or stretch both sides."""

    COVER = "cover"
    STRETCH = "stretch"


class Resample(str, enum.Enum):
    """Filter for resizing photos; all but nearest are anti-aliased."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """What is done to every picture."""

    fit: Fit = Fit.COVER
    resample: Resample = Resample.BICUBIC


@dataclasses.dataclass(frozen=True)
class Zoom:
    """What is done to training pictures beyond the recipe's augmentation: random scale around that of run time."""

    zoom: tuple[float, float] = within((0.8, 1.25), low=0.1, high=10.0)


@dataclasses.dataclass(frozen=True)
class Darken:
    """Darkens: gain * picture ** gamma + normal noise of that deviation, for values in [0, 1]; each drawn from its interval."""

    gamma: tuple[float, float] = within((1.0, 1.0), low=0.1, high=10.0)
    gain: tuple[float, float] = within((1.0, 1.0), low=0.01, high=1.0)
    noise: tuple[float, float] = within((0.0, 0.0), low=0.0, high=0.5)


@dataclasses.dataclass(frozen=True)
class CalibrationSet:
    """One file of calibration/. `count` inputs calibrate ranges; `seed` is added to the run's."""

    name: str = matching(r"[a-z0-9]+(-[a-z0-9]+)*")
    title: str = matching(r".{1,120}")
    kind: Kind = required()
    source: Origin = required()
    count: int = within(128, low=4, high=100_000)
    seed: int = within(0, low=0, high=2**31 - 1)
    preprocess: Preprocess = Preprocess()
    augment: Zoom = Zoom()
    darken: Darken | None = None


def load_calibration(name_or_path: str, spec: ComponentSpec) -> CalibrationSet:
    """Return the set called `name_or_path`, or for "auto" the one for the inputs of `spec`; RecipeError if it does not fit."""
    kinds = [tensor.kind for tensor in spec.inputs]
    wanted = next((kind for kind in (*PICTURES, Kind.TOKENS, Kind.CLASS) if kind in kinds), Kind.LATENT)
    if name_or_path == "auto":
        name_or_path = _AUTO.get(wanted, "latents")
    path = find_file("calibration", name_or_path, error=RecipeError)
    calibration = read_toml(path, CalibrationSet, schema=_SCHEMA, error=RecipeError)
    if calibration.kind is not wanted and not (wanted is Kind.CLASS and calibration.kind is Kind.LATENT):
        takes = ", ".join(kind.value for kind in kinds)
        fact = f"{path}: calibration '{calibration.name}' is for {calibration.kind.value} inputs, the generator takes {takes}"
        raise RecipeError(fact, hint="use calibration 'auto'")
    _check(calibration, str(path))
    return calibration


def _check(calibration: CalibrationSet, where: str) -> None:
    if calibration.kind is Kind.NOISE:
        raise RecipeError(f"{where}: kind is '{calibration.kind.value}'", hint="known: image, label_map, latent, class, tokens")
    if (calibration.source is Origin.RANDOM) != (calibration.kind in _DRAWN):
        hint = "source = 'random' belongs to kind = 'latent' or 'class'; ranges calibrated on random pictures are wrong"
        raise RecipeError(
            f"{where}: source '{calibration.source.value}' does not give {calibration.kind.value} inputs", hint=hint
        )
    if calibration.kind is Kind.TOKENS and calibration.source is not Origin.FOLDER:
        raise RecipeError(f"{where}: prompts are not drawn", hint="source = 'folder', with prompts.txt and tokenizer.json in it")
    if calibration.darken and calibration.kind is not Kind.IMAGE:
        raise RecipeError(f"{where}: [darken] is for kind = 'image'", hint="delete the section")
    intervals = {"augment.zoom": calibration.augment.zoom}
    intervals |= {f"darken.{k}": v for k, v in dataclasses.asdict(calibration.darken).items()} if calibration.darken else {}
    for key, (low, high) in intervals.items():
        if low > high:
            raise RecipeError(f"{where}: {key} is [{low}, {high}]", hint="write the smaller number first")
