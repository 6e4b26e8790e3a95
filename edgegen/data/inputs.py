"""What stages draw inputs from. Held-out inputs are never trained or calibrated on, and the same seed gives the same inputs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgegen.data.calibration import PICTURES, CalibrationSet, Origin, load_calibration
from edgegen.data.gallery import Gallery, open_gallery
from edgegen.data.prompts import Prompts, PromptSource, open_prompts
from edgegen.data.sources import DrawnSource, PictureSource, Source
from edgegen.errors import DataError
from edgegen.recipe import AugmentConfig
from edgegen.spec import ComponentSpec, Kind, TensorSpec

if TYPE_CHECKING:
    import numpy as np
    import torch


_COUNTED = (PictureSource, PromptSource)
_DRAWN_POOL = 1024  # a view of inputs that are drawn, not photographed


class Inputs(Protocol):
    """Inputs of a generator."""

    @property
    def digest(self) -> str:
        """SHA-256 over the files and all settings."""
        ...

    @property
    def description(self) -> str:
        """What the inputs are, in a phrase for reports."""
        ...

    def train(self, step: int, batch: int, augment: AugmentConfig) -> tuple[torch.Tensor, ...]:
        """Return the inputs of training step `step`, one tensor (N, ...) per input; the same step gives the same tensors."""
        ...

    def train_truth(self, step: int, batch: int, augment: AugmentConfig) -> torch.Tensor | None:
        """Return, for a super-resolver, the pictures (N, C, H, W) in [0, 1] that `train` reduced at `step`; else None."""
        ...

    def pool_size(self, augment: AugmentConfig) -> int:
        """Return how many different training inputs there are under `augment`; 0: endlessly many (`augment.views` is 0)."""
        ...

    def positions(self, step: int, batch: int, augment: AugmentConfig) -> list[int]:
        """Return where in the pool the inputs of `step` lie: equal positions, equal inputs. `augment.views` must not be 0."""
        ...

    def held_out(self, count: int) -> list[tuple[np.ndarray, ...]]:
        """Return the first `count` held-out inputs, batch axis 1, or as many as there are; never trained or calibrated on."""
        ...

    def calibration(self, count: int | None = None) -> list[tuple[np.ndarray, ...]]:
        """Return `count` inputs to calibrate ranges with, batch axis 1; None: as many as the calibration file says."""
        ...

    def truth(self, count: int) -> list[np.ndarray] | None:
        """Return, for a super-resolver, the pictures (H, W, C), uint8, that the held-out inputs were reduced from; else None."""
        ...


def open_inputs(spec: ComponentSpec, folder: Path | None, *, calibration: str, seed: int, held_out: int) -> Inputs:
    """Return the inputs for `spec`: pictures or prompts from `folder`, latents and classes from `seed`.

    `calibration` is "auto", a name from calibration/ or a path. At most `held_out` pictures are held out. Raises DataError for
    a folder or a picture that cannot be used, RecipeError for a calibration file that does not fit.
    """
    settings = load_calibration(calibration, spec)
    seed = seed + settings.seed
    pictures = [tensor for tensor in spec.inputs if tensor.kind in PICTURES]
    if len(pictures) > 1:
        names = ", ".join(tensor.name for tensor in pictures)
        raise DataError(f"the generator takes several pictures ({names}); one folder cannot give them", hint="not supported yet")
    gallery, prompts = None, None
    sources: list[Source] = []
    for index, tensor in enumerate(spec.inputs):
        if tensor.kind is Kind.TOKENS:
            prompts = open_prompts(folder, tensor)
            sources.append(PromptSource(prompts, tensor, seed=seed, held_out=held_out))
        elif tensor.kind in PICTURES:
            scale = _upscale(spec, tensor)
            side = max(256, 2 * scale * max(tensor.height, tensor.width))
            gallery = open_gallery(tensor, folder, settings, smallest_side=side)
            sources.append(PictureSource(gallery, tensor, settings, scale=scale, seed=seed, held_out=held_out))
        else:
            sources.append(DrawnSource(tensor, seed=seed, index=index, in_turn=settings.kind is Kind.CLASS))
    files = [*(gallery.files if gallery else []), *(prompts.files if prompts else [])]
    digest = _digest(spec, settings, files, (seed, held_out))
    described = _describe_prompts(prompts, sources) if prompts else _describe(settings, gallery, folder, sources)
    return _SourceInputs(tuple(sources), settings, seed, digest, described)


@dataclasses.dataclass(frozen=True)
class _SourceInputs:
    """One source per input of the generator."""

    sources: tuple[Source, ...]
    settings: CalibrationSet
    seed: int
    digest: str
    description: str

    def train(self, step: int, batch: int, augment: AugmentConfig) -> tuple[torch.Tensor, ...]:
        if not augment.views:
            return tuple(source.train(step, batch, augment) for source in self.sources)
        import numpy as np
        import torch

        positions = self.positions(step, batch, augment)
        arrays = ([source.pooled(position, augment) for position in positions] for source in self.sources)
        return tuple(torch.from_numpy(np.concatenate(one)) for one in arrays)

    def train_truth(self, step: int, batch: int, augment: AugmentConfig) -> torch.Tensor | None:
        for source in self.sources:
            if isinstance(source, PictureSource) and source.reduces:
                if augment.views:
                    return source.pooled_truth(self.positions(step, batch, augment), augment)
                return source.train_truth(step, batch, augment)
        return None

    def pool_size(self, augment: AugmentConfig) -> int:
        return self._pictures() * augment.views

    def positions(self, step: int, batch: int, augment: AugmentConfig) -> list[int]:
        pictures = self._pictures()
        found, orders = [], {}
        for index in range(step * batch, (step + 1) * batch):
            passes, within_pass = divmod(index, pictures)
            if passes not in orders:
                orders[passes] = random.Random(f"{self.seed}:pool pass:{passes}").sample(range(pictures), pictures)
            found.append(orders[passes][within_pass] * augment.views + passes % augment.views)
        return found

    def _pictures(self) -> int:
        """Return how many pictures are trained on; without pictures, how many latents a view stands for."""
        return min([source.training_count for source in self.sources if isinstance(source, _COUNTED)] or [_DRAWN_POOL])

    def held_out(self, count: int) -> list[tuple[np.ndarray, ...]]:
        return [tuple(source.held_out(i) for source in self.sources) for i in range(self._available(count))]

    def calibration(self, count: int | None = None) -> list[tuple[np.ndarray, ...]]:
        wanted = self.settings.count if count is None else count
        for source in self.sources:
            if isinstance(source, _COUNTED):
                wanted = min(wanted, source.training_count)
        return [tuple(source.calibration(i, wanted) for source in self.sources) for i in range(wanted)]

    def truth(self, count: int) -> list[np.ndarray] | None:
        for source in self.sources:
            if isinstance(source, PictureSource) and source.reduces:
                return [source.truth(i) for i in range(self._available(count))]
        return None

    def _available(self, count: int) -> int:
        return min([count, *(source.limit for source in self.sources if source.limit is not None)])


def _upscale(spec: ComponentSpec, tensor: TensorSpec) -> int:
    """Return by how much the generator enlarges the picture `tensor`: 1 unless it is a super-resolver."""
    output = spec.outputs[0]
    if tensor.kind is not Kind.IMAGE or output.kind is not Kind.IMAGE or output.height % tensor.height:
        return 1
    scale = output.height // tensor.height
    return scale if scale * tensor.width == output.width else 1


def _digest(spec: ComponentSpec, settings: CalibrationSet, files: list[tuple[str, str]], numbers: tuple[int, int]) -> str:
    document = {
        "inputs": [tensor.to_json() for tensor in spec.inputs],
        "outputs": [tensor.shape for tensor in spec.outputs],
        "calibration": dataclasses.asdict(settings),
        "seed": numbers[0],
        "held_out": numbers[1],
        "files": files,
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _describe_prompts(prompts: Prompts, sources: list[Source]) -> str:
    source = next(s for s in sources if isinstance(s, PromptSource))
    return f"{len(prompts)} prompts: {source.training_count} to train, {source.limit} held out"


def _describe(settings: CalibrationSet, gallery: Gallery | None, folder: Path | None, sources: list[Source]) -> str:
    if gallery is None:
        unused = f"; the pictures of {folder.name} are not used" if folder else ""
        return f"inputs drawn from seeds ({settings.name}){unused}"
    where = "drawn by edgegen, not photographed" if settings.source is Origin.SYNTHETIC else f"of {folder.name if folder else ''}"
    counts = [(s.training_count, s.limit) for s in sources if isinstance(s, PictureSource)][0]
    copies = f", {gallery.duplicate_count} copies left out" if gallery.duplicate_count else ""
    return f"{len(gallery)} pictures {where} ({settings.name}): {counts[0]} to train, {counts[1]} held out{copies}"
