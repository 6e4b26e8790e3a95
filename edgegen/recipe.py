"""Recipes: which stages run, in which order, with which settings. Strict TOML in, frozen values out."""

from __future__ import annotations

import dataclasses
import enum

from edgegen.errors import RecipeError, nearest
from edgegen.resources import find_file
from edgegen.spec import Precision
from edgegen.strict_toml import matching, read_toml, within


class Effort(str, enum.Enum):
    """How long distillation may train; a deterministic amount of arithmetic, not of seconds, so runs repeat exactly."""

    QUICK = "quick"
    BALANCED = "balanced"
    THOROUGH = "thorough"


class Choice(str, enum.Enum):
    """Whether a rewrite is applied: always, never, or as the target's profile says."""

    YES = "yes"
    NO = "no"
    AUTO = "auto"


class Importance(str, enum.Enum):
    """What ranks channels: how much the picture changes without them, or the size of their weights or norm scales."""

    PICTURE = "picture"
    MAGNITUDE = "magnitude"
    NORM = "norm"


class PruneGoal(str, enum.Enum):
    """What pruning lowers: the latency on the target, or multiply-accumulates, which are the same on every machine."""

    LATENCY = "latency"
    MACS = "macs"


class AdversarialKind(str, enum.Enum):
    """The pair of losses that student and discriminator play for."""

    NON_SATURATING = "non-saturating"
    HINGE = "hinge"


class Opponent(str, enum.Enum):
    """Which discriminator plays: the given one, the given one cut to the student's share of the width, or a new one."""

    GIVEN = "given"
    SHRUNK = "shrunk"
    NEW = "new"


class Balance(str, enum.Enum):
    """Whether the weights of losses count as they are, or each in units of its gradient at the start."""

    NONE = "none"
    GRADIENT = "gradient"


class TrainingArithmetic(str, enum.Enum):
    """What training computes convolutions in; auto: the fastest that the device has and the teacher's pictures survive."""

    AUTO = "auto"
    F32 = "f32"
    BF16 = "bf16"
    F16 = "f16"


class MemoryFormat(str, enum.Enum):
    """How training lays out pictures in memory; auto: what was measured to be faster."""

    AUTO = "auto"
    CONTIGUOUS = "contiguous"
    CHANNELS_LAST = "channels_last"


@dataclasses.dataclass(frozen=True)
class RewriteConfig:
    """Settings of the rewrite stage. BatchNorm is always folded: it is exact and pays everywhere."""

    space_to_depth: Choice = Choice.AUTO
    conv_transpose: Choice = Choice.AUTO
    pixels: Choice = Choice.AUTO


@dataclasses.dataclass(frozen=True)
class PruneConfig:
    """Settings of the prune stage. `speedup`, against the rewritten teacher, is the goal when no latency budget is given.

    With `goal` "macs" it says how many times fewer multiply-accumulates are wanted; there is no latency budget then.
    `rounds` cuts are made one after the other, each with scores of its own; `turns` is how often cutting and training alternate.
    """

    speedup: float = within(6.0, low=1.0, high=1000.0)
    goal: PruneGoal = PruneGoal.LATENCY
    min_channels: int = within(8, low=1, high=4096)
    importance: Importance = Importance.PICTURE
    rounds: int = within(1, low=1, high=16)
    turns: int = within(1, low=1, high=8)
    moves: bool = True


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the distillation losses; 0 switches one off. `truth` is L1 to the pictures that a super-resolver's inputs
    were reduced from: beside `total_variation`, the only loss that does not ask the teacher."""

    l1: float = within(1.0, low=0.0)
    charbonnier: float = within(0.0, low=0.0)
    ssim: float = within(0.3, low=0.0)
    gradient: float = within(0.0, low=0.0)
    feature: float = within(0.02, low=0.0)
    adversarial: float = within(0.0, low=0.0)
    truth: float = within(0.0, low=0.0)
    ms_ssim: float = within(0.0, low=0.0)
    haar: float = within(0.0, low=0.0)
    total_variation: float = within(0.0, low=0.0)
    gram: float = within(0.0, low=0.0)
    alignment: float = within(0.0, low=0.0)
    channel_mean: float = within(0.0, low=0.0)
    latent_direction: float = within(0.0, low=0.0)
    perceptual: float = within(0.0, low=0.0)


@dataclasses.dataclass(frozen=True)
class AdversaryConfig:
    """Settings of the discriminator that `losses.adversarial` plays against. `r1` weighs the gradient penalty (0: none) that
    every `r1_every`-th step pays; from StyleGAN2, as in content-aware GAN compression and MobileStyleGAN."""

    kind: AdversarialKind = AdversarialKind.NON_SATURATING
    discriminator: Opponent = Opponent.GIVEN
    r1: float = within(10.0, low=0.0)
    r1_every: int = within(16, low=1)


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of training images: `crop` is the side in pixels of random square crops (0: the whole picture, resized).
    Generators that normalise over the picture take whole pictures, or crops of 256, where less is asked for.

    `views` 0: every pass over the pictures augments them anew. N: each picture is seen in N views that are drawn once, and
    inputs without pictures come from a pool of N x 1024. The teacher's images of them are then computed once and stored.
    """

    crop: int = within(128, low=0, high=4096, multiple=4)
    flip: bool = True
    rotate_degrees: float = within(0.0, low=0.0, high=180.0)
    jitter: float = within(0.0, low=0.0, high=0.9)
    views: int = within(0, low=0, high=100_000)


USUAL_LEARNING_RATE = 2e-3  # of distillation, where no better one is known


@dataclasses.dataclass(frozen=True)
class DistillConfig:
    """Settings of the distill stage. `steps` 0 means: as many as the effort pays for, from the MACs of teacher and student.

    `batch` 0 means: about 65,000 output pixels, at least 4 and at most 64 samples (at least 1 of generators that normalise over
    the picture). `learning_rate` 0 means: 5e-4 to 2e-3, by how near to the teacher the student starts. `patience` is the
    number of evaluations without a better held-out picture after which training stops; 0: never. `workers` is the number of
    processes that prepare inputs ahead of the step; 0: the training process does it.
    """

    steps: int = within(0, low=0)
    batch: int = within(0, low=0, high=4096)
    learning_rate: float = within(0.0, low=0.0, high=1.0)
    warmup_steps: int = within(50, low=0)
    clip_norm: float = within(1.0, low=0.0)
    ema: float = within(0.995, low=0.0, high=0.99999)
    checkpoint_every: int = within(200, low=1)
    evaluate_every: int = within(100, low=1)
    held_out: int = within(8, low=1, high=10_000)
    patience: int = within(0, low=0)
    workers: int = within(0, low=0, high=64)
    arithmetic: TrainingArithmetic = TrainingArithmetic.AUTO
    memory_format: MemoryFormat = MemoryFormat.AUTO
    compile: bool = False
    balance: Balance = Balance.NONE
    losses: LossConfig = LossConfig()
    adversary: AdversaryConfig = AdversaryConfig()
    augment: AugmentConfig = AugmentConfig()


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Settings of the export stage. Empty `precisions`: all of the target's profile. `calibration` "auto": by input kind."""

    precisions: tuple[str, ...] = ()
    calibration: str = "auto"


@dataclasses.dataclass(frozen=True)
class VerifyConfig:
    """Settings of the verify stage: held-out inputs, parity floor in dB for float artifacts, and what int8 may lose in SSIM."""

    held_out: int = within(16, low=1, high=10_000)
    min_parity_db: float = within(35.0, low=0.0, high=200.0)
    max_ssim_loss: float = within(0.01, low=0.0, high=1.0)


@dataclasses.dataclass(frozen=True)
class QatConfig:
    """Settings of the qat stage, quantisation-aware training with the losses of distill.

    `when` auto: if int8 as it is misses the floor of the picture, or at thorough effort. `steps` 0: a tenth of those of distill.
    `learning_rate` 0: a quarter of that of distill, or 5e-4.
    """

    when: Choice = Choice.AUTO
    steps: int = within(0, low=0)
    learning_rate: float = within(0.0, low=0.0, high=1.0)


@dataclasses.dataclass(frozen=True)
class BenchConfig:
    """Settings of the bench stage: both a least count and a least duration must be reached."""

    min_runs: int = within(64, low=1, high=10_000_000)
    min_seconds: float = within(2.0, low=0.0, high=86_400.0)
    threads: int = within(0, low=0, high=1024)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """An ordered list of stages and the settings of each; a stage that is not listed does not run."""

    name: str = matching(r"[a-z0-9]+(-[a-z0-9]+)*")
    title: str = matching(r".{1,120}")
    stages: tuple[str, ...] = matching(r"[a-z]+")
    rewrite: RewriteConfig = RewriteConfig()
    prune: PruneConfig = PruneConfig()
    distill: DistillConfig = DistillConfig()
    export: ExportConfig = ExportConfig()
    verify: VerifyConfig = VerifyConfig()
    qat: QatConfig = QatConfig()
    bench: BenchConfig = BenchConfig()


STAGES = ("load", "rewrite", "prune", "distill", "export", "verify", "qat", "bundle", "bench", "report")
"""All stages in the order in which they may appear; load and bundle always run."""

_SCHEMA = "edgegen.recipe/1"
_ALWAYS = ("load", "export", "bundle")


def load_recipe(name_or_path: str) -> Recipe:
    """Return the recipe called `name_or_path` ("balanced") or written in that file ("./mine.toml").

    Raises RecipeError for an unknown name (nearest names given), a file that breaks the schema, and contradictions.
    """
    path = find_file("recipes", name_or_path, error=RecipeError)
    recipe = read_toml(path, Recipe, schema=_SCHEMA, error=RecipeError)
    check_recipe(recipe, where=str(path))
    return recipe


def check_recipe(recipe: Recipe, *, where: str) -> None:
    """Raise RecipeError if the stages are unknown, out of order or incomplete, or if settings contradict each other."""
    _check_stages(recipe.stages, where)
    for stage in STAGES:
        settings = getattr(recipe, stage, None)
        if settings is not None and stage not in recipe.stages and settings != type(settings)():
            raise RecipeError(
                f"{where}: [{stage}] is set but the stage {stage} is not listed", hint="list it, or delete the section"
            )
    _check_export(recipe.export, where)
    if "distill" in recipe.stages:
        _check_distill(recipe.distill, where)


def _check_stages(stages: tuple[str, ...], where: str) -> None:
    for stage in stages:
        if stage not in STAGES:
            raise RecipeError(f"{where}: stages: {stage!r} is not a stage", hint=nearest(stage, STAGES))
    ordered = tuple(stage for stage in STAGES if stage in stages)
    if stages != ordered:
        fact = "lists a stage twice" if len(set(stages)) < len(stages) else "is out of order"
        raise RecipeError(f"{where}: stages {fact}", hint="write " + ", ".join(ordered))
    if "qat" in stages and "verify" not in stages:
        raise RecipeError(f"{where}: stages has qat but not verify", hint="list verify: it tells whether training is needed")
    for stage in _ALWAYS:
        if stage not in stages:
            raise RecipeError(f"{where}: stages lacks {stage}", hint="every recipe has " + ", ".join(_ALWAYS))


def _check_export(export: ExportConfig, where: str) -> None:
    known = tuple(precision.value for precision in Precision)
    for precision in export.precisions:
        if precision not in known:
            raise RecipeError(f"{where}: export.precisions: {precision!r} is not a precision", hint=nearest(precision, known))
    if len(set(export.precisions)) < len(export.precisions):
        raise RecipeError(f"{where}: export.precisions lists a precision twice", hint="keep each once")


def _check_distill(distill: DistillConfig, where: str) -> None:
    losses = distill.losses
    if not any(dataclasses.astuple(dataclasses.replace(losses, total_variation=0.0))):  # alone it asks for one flat colour
        raise RecipeError(
            f"{where}: distill.losses are all 0: there is nothing to learn from", hint="set l1 to 1, or unlist distill"
        )
    if distill.steps and distill.warmup_steps >= distill.steps:
        fact = f"distill.warmup_steps is {distill.warmup_steps} but distill.steps is {distill.steps}"
        raise RecipeError(f"{where}: {fact}", hint="the warm-up must end before the training does")
