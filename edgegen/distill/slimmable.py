"""One training, many widths: the students of a nest learn together, on weights that they share.

Source: the sandwich rule of Yu and Huang 2019 (Universally Slimmable Networks): every step trains the widest student, the
narrowest and a few random ones, and takes one step along the sum of their gradients. All learn from the teacher, whose images
are at hand, and not from the widest student as there, whose images are the teacher's with its own errors added. The teacher
runs once for all of them. Statistics of BatchNorm are estimated anew for every width from its final weights, as there.
"""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.func import functional_call

from edgegen.distill.adversary import Adversary
from edgegen.distill.evaluate import Fidelity
from edgegen.distill.hardware import Arithmetic, Hardware
from edgegen.distill.loop import check_arguments, train, training_facts
from edgegen.distill.networks import fit_adapters
from edgegen.distill.objective import check_objective, needs_taps
from edgegen.distill.perceptual import PerceptualNetwork
from edgegen.distill.schedule import average_decay_at, update_average
from edgegen.distill.taps import pair_taps, with_taps
from edgegen.distill.trainee import Learner
from edgegen.errors import RecipeError
from edgegen.generator import Generator, StageRecord
from edgegen.nested import Nested, select
from edgegen.progress import Progress
from edgegen.recipe import DistillConfig

if TYPE_CHECKING:
    from edgegen.data import Inputs

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclasses.dataclass(frozen=True)
class Sandwich:
    """Which widths a step trains: those in `always` (indices, negative ones from the end) and `randoms` of the others.

    A step costs a teacher pass and three passes of each. `weights` (one per width; None: equal ones) say what its loss counts.
    """

    always: tuple[int, ...] = (0, -1)
    randoms: int = 2
    weights: tuple[float, ...] | None = None

    def shares(self, step: int, *, count: int, seed: int) -> dict[int, float]:
        """Return the widths (of `count`) that step `step` trains, ascending, with their parts of the loss, which sum to 1."""
        fixed = {index % count for index in self.always}
        others = [index for index in range(count) if index not in fixed]
        drawn = random.Random(f"{seed} {step}").sample(others, min(self.randoms, len(others)))
        chosen = sorted([*fixed, *drawn])
        weights = self.weights or (1.0,) * count
        total = sum(weights[index] for index in chosen)
        return {index: weights[index] / total for index in chosen}


@dataclasses.dataclass(frozen=True)
class NestedResult:
    """A trained nest, how near each of its students is to the teacher on held-out inputs, and the lineage entry of the training.

    `quality` goes with `nested.widths`; it is empty when no inputs are held out.
    """

    nested: Nested
    quality: tuple[Fidelity, ...]
    record: StageRecord

    def student(self, index: int) -> Generator:
        """Return one student with weights of its own: `distill` can polish it, everything else can use it as it is."""
        facts = dict(self.record.facts) | {"width": index}
        if self.quality:
            facts |= dataclasses.asdict(self.quality[index])
        return self.nested.student(index).with_record(dataclasses.replace(self.record, facts=facts))


def distill_nested(
    nested: Nested,
    config: DistillConfig,
    *,
    teacher: Generator,
    inputs: Inputs,
    steps: int,
    seed: int,
    work_dir: Path,
    progress: Progress,
    sandwich: Sandwich | None = None,
    log_dir: Path | None = None,
    discriminator: nn.Module | None = None,
    perceptual: PerceptualNetwork | None = None,
    arithmetic: Arithmetic | None = None,
) -> NestedResult:
    """Return `nested`, all its widths trained together for `steps` steps, with the moving averages of their weights.

    Everything else is as in `distill`, resuming included. A step's loss is the weighted mean of its students' losses.
    Raises RecipeError for a sandwich that does not fit the nest.
    """
    check_arguments(nested.full, config, steps, discriminator)
    check_objective(config, nested.full.spec, perceptual)
    sandwich = sandwich or Sandwich()
    _check_sandwich(sandwich, len(nested.widths))

    def build(first_batch: tuple[torch.Tensor, ...], hardware: Hardware) -> NestedNetworks:
        return NestedNetworks(nested, teacher, first_batch, hardware, sandwich=sandwich, seed=seed, inputs=inputs,
                              features=needs_taps(config.losses, judged=perceptual is not None))  # fmt: skip

    students = {"full": nested.full.module} | {str(index): width.module for index, width in enumerate(nested.widths)}
    settings = {"sandwich": dataclasses.asdict(sandwich), "shared": [sorted(width.places) for width in nested.widths]}
    run = train(build, students, config, output=nested.full.spec.outputs[0], teacher=teacher, inputs=inputs, steps=steps,
                seed=seed, work_dir=work_dir, progress=progress, log_dir=log_dir, discriminator=discriminator,
                perceptual=perceptual, arithmetic=arithmetic, settings=settings)  # fmt: skip
    averages = run.networks.averages()
    found = [run.held_out.fidelity(average, run.hardware.device) for average in averages if run.held_out.inputs]
    record = StageRecord("distill", dataclasses.asdict(config) | {"steps": steps, "seed": seed, **settings}, run.seconds,
                         training_facts(run) | {"widths": len(averages)})  # fmt: skip
    return NestedResult(_with_weights(nested, averages), tuple(found), record)


def _check_sandwich(sandwich: Sandwich, count: int) -> None:
    outside = [index for index in sandwich.always if not -count <= index < count]
    if outside:
        raise RecipeError(f"the sandwich names width {outside[0]} of a nest of {count}", hint="0 is the widest, -1 the narrowest")
    if not sandwich.always and sandwich.randoms < 1:
        raise RecipeError("the sandwich trains no width", hint="name one in `always`, or set `randoms` to 1")
    if sandwich.weights is not None and (len(sandwich.weights) != count or min(sandwich.weights) <= 0):
        raise RecipeError(f"the sandwich needs {count} weights above 0, one per width", hint="leave them out for equal ones")


def _with_weights(nested: Nested, students: Sequence[nn.Module]) -> Nested:
    """Return a copy of `nested` with the weights of `students`, one per width; the widest one has every shared weight."""
    full, widths = nested.full.copy(), []
    full.module.load_state_dict(students[0].state_dict())
    for width, student in zip(nested.widths, students, strict=True):
        module = copy.deepcopy(width.module)
        module.load_state_dict(student.state_dict())
        widths.append(dataclasses.replace(width, module=module))
    return Nested(full, tuple(widths))


class NestedNetworks:
    """The widths of a nest as a `Trainee`: shared weights once, each width's own beside them, and the averages of all."""

    def __init__(
        self,
        nested: Nested,
        teacher: Generator,
        first_batch: tuple[torch.Tensor, ...],
        hardware: Hardware,
        *,
        sandwich: Sandwich,
        seed: int,
        inputs: Inputs,
        features: bool,
    ) -> None:
        device, output = hardware.device, nested.full.spec.outputs[0]
        batch = tuple(tensor.to(device) for tensor in first_batch)
        guide = copy.deepcopy(teacher.module).to(device).eval().requires_grad_(False)
        modules = [copy.deepcopy(width.module).to(device).eval().requires_grad_(False) for width in nested.widths]
        self.tap_names = pair_taps(modules[0], guide, batch) if features else ()
        self.teacher = with_taps(guide, self.tap_names)
        self.adversary: Adversary | None = None
        self._finished, self._sandwich, self._seed = modules, sandwich, seed
        self._places = [{name: place.to(device) for name, place in width.places.items()} for width in nested.widths]
        self._weights, self._owners = _collect(nested)
        self._weights.to(device)
        self._average = copy.deepcopy(self._weights).requires_grad_(False)
        self._tapped = [with_taps(copy.deepcopy(module), self.tap_names, output) for module in modules]
        fitted = [fit_adapters(tapped, self.teacher, batch) for tapped in self._tapped]
        self._adapters = nn.ModuleList(adapters for adapters, _ in fitted).to(device)
        self._tap_scales = fitted[0][1]
        for layer in (layer for tapped in self._tapped for layer in tapped.modules()):
            layer.train(isinstance(layer, _BATCH_NORMS))
        self._calibration = _calibration(inputs, len(batch[0]), device) if _tracks(modules[0]) else []

    def learners(self, step: int) -> list[Learner]:
        """Return the widths of the sandwich of step `step`."""
        shares = self._sandwich.shares(step, count=len(self._tapped), seed=self._seed)
        return [self._learner(index, share) for index, share in shares.items()]

    def averages(self) -> list[nn.Module]:
        """Return every width with its part of the average, and with statistics of BatchNorm that go with those weights."""
        for index, module in enumerate(self._finished):
            parameters = dict(module.named_parameters())
            with torch.no_grad():
                for name, tensor in self._tensors(index, self._average).items():
                    parameters[name].copy_(tensor)
            if self._calibration:
                estimate_statistics(module, self._calibration)
        return list(self._finished)

    def parameters(self) -> list[nn.Parameter]:
        """Return shared weights, the widths' own, and the adapters of every width."""
        return [*self._weights, *self._adapters.parameters()]

    def batch_statistics(self) -> list[torch.Tensor]:
        """Return nothing: statistics are estimated from the averages, on the same inputs in every process."""
        return []

    def follow(self, step: int, decay: float) -> None:
        """Move the averages towards the weights after step `step`."""
        update_average(self._average, self._weights, average_decay_at(step, decay=decay))

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resumed run needs."""
        return {
            "weights": self._weights.state_dict(),
            "average": self._average.state_dict(),
            "adapters": self._adapters.state_dict(),
            "tap_scales": self._tap_scales,
            "adversary": self.adversary.state_dict() if self.adversary else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self._weights.load_state_dict(state["weights"])
        self._average.load_state_dict(state["average"])
        self._adapters.load_state_dict(state["adapters"])
        self._tap_scales = state["tap_scales"].to(self._tap_scales.device)
        if self.adversary:
            self.adversary.load_state_dict(state["adversary"])

    def _learner(self, index: int, share: float) -> Learner:
        def forward(*batch: torch.Tensor) -> Any:
            return functional_call(self._tapped[index], self._tensors(index, self._weights), batch)

        adapters = self._adapters[index]
        assert isinstance(adapters, nn.ModuleList)
        return Learner(forward, adapters, self._tap_scales, share)

    def _tensors(self, index: int, weights: nn.ParameterList) -> dict[str, torch.Tensor]:
        """Return all parameters of one width by name, as functions of `weights`."""
        places = self._places[index]
        found = {name: weights[number] for name, number in self._owners[index].items()}
        return {name: _selected(weight, places[name]) if name in places else weight for name, weight in found.items()}


def _selected(shared: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return the values at `places` in the memory format of `shared`, which decides what a convolution's output has."""
    values = select(shared, places)
    is_last = shared.dim() == 4 and not shared.is_contiguous() and shared.is_contiguous(memory_format=torch.channels_last)
    return values.contiguous(memory_format=torch.channels_last) if is_last else values


def _collect(nested: Nested) -> tuple[nn.ParameterList, list[dict[str, int]]]:
    """Return every weight of the nest once, and for each width which of them is behind each of its parameters."""
    weights, owners, shared = nn.ParameterList(), [], dict[str, int]()
    full = dict(nested.full.module.named_parameters())
    for width in nested.widths:
        owners.append({})
        for name, parameter in width.module.named_parameters():
            if name in width.places and name in shared:
                owners[-1][name] = shared[name]
                continue
            owners[-1][name] = len(weights)
            if name in width.places:
                shared[name] = len(weights)
            weights.append(nn.Parameter((full[name] if name in width.places else parameter).detach().clone()))
    return weights, owners


def _tracks(module: nn.Module) -> bool:
    return any(isinstance(layer, _BATCH_NORMS) and layer.track_running_stats for layer in module.modules())


def _calibration(inputs: Inputs, batch: int, device: torch.device) -> list[tuple[torch.Tensor, ...]]:
    """Return the calibration inputs in batches of `batch`; a last one of a single input, which has no variance, is left out."""
    samples = [tuple(torch.from_numpy(array) for array in arrays) for arrays in inputs.calibration()]
    chunks = [samples[start : start + batch] for start in range(0, len(samples), batch)]
    return [tuple(torch.cat(parts).to(device) for parts in zip(*chunk, strict=True)) for chunk in chunks if len(chunk) > 1]


@torch.no_grad()
def estimate_statistics(module: fx.GraphModule, batches: list[tuple[torch.Tensor, ...]]) -> None:
    """Replace the running statistics of every BatchNorm, in place, by their means over `batches`.

    Source: Yu and Huang 2019, section 3.3 (post-statistics of batch normalization).
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _BATCH_NORMS) and layer.track_running_stats]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    for batch in batches:
        module(*batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
