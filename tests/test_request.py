"""What a command line asks for is checked before anything long starts."""

from pathlib import Path
from typing import Any

import pytest

from edgegen.errors import CheckpointError, EdgegenError, RecipeError, TargetError
from edgegen.request import Request, make_request, require_loss_files, require_one_goal
from edgegen.spec import parse_bytes, parse_resolution, parse_seconds

NOTHING = dict.fromkeys(("latency", "fps", "max_size", "max_memory", "min_ssim", "resolution", "start", "until"))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "face.pt"
    path.write_bytes(b"not read yet")
    return path


def ask(checkpoint: Path, *, target: str = "host", recipe: str = "balanced", out: Path | None = None, **options: Any) -> Request:
    return make_request(checkpoint, target=target, recipe=recipe, out=out, **{**NOTHING, **options})


def test_nothing_asked_for_is_no_limit(checkpoint: Path) -> None:
    budget = ask(checkpoint).budget
    assert (budget.latency_s, budget.size_bytes, budget.memory_bytes, budget.min_ssim) == (None, None, None, None)


def test_every_limit_is_read_in_its_unit(checkpoint: Path) -> None:
    budget = ask(checkpoint, latency="33ms", max_size="4MiB", max_memory="512KiB", min_ssim=0.9).budget
    assert budget.latency_s == pytest.approx(0.033)
    assert (budget.size_bytes, budget.memory_bytes, budget.min_ssim) == (4 << 20, 512 << 10, 0.9)


def test_frames_per_second_are_a_latency(checkpoint: Path) -> None:
    assert ask(checkpoint, fps=30.0).budget.latency_s == pytest.approx(1 / 30)


def test_the_output_folder_is_named_after_checkpoint_and_target(checkpoint: Path) -> None:
    assert ask(checkpoint).out == Path("edgegen-out/face-host")
    assert ask(checkpoint, target="jetson").out == Path("edgegen-out/face-jetson-orin-nano")


def test_an_alias_that_names_a_use_brings_its_frame_budget(checkpoint: Path) -> None:
    made = ask(checkpoint, target="ar")
    assert made.target.id == "snapdragon-xr2-gen2"
    assert made.budget.latency_s == made.target.frame_budget_s


def test_an_alias_of_the_board_alone_brings_no_budget(checkpoint: Path) -> None:
    assert ask(checkpoint, target="jetson").budget.latency_s is None


def test_a_latency_that_is_given_overrules_the_alias(checkpoint: Path) -> None:
    assert ask(checkpoint, target="ar", latency="50ms").budget.latency_s == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        pytest.param({"latency": "33ms", "fps": 30.0}, RecipeError, ("--latency", "--fps"), id="latency and fps"),
        pytest.param({"fps": 0.0}, RecipeError, ("--fps 0",), id="no frames"),
        pytest.param({"fps": float("nan")}, RecipeError, ("--fps nan",), id="frames that are no number"),
        pytest.param({"fps": float("inf")}, RecipeError, ("--fps inf",), id="endless frames"),
        pytest.param({"min_ssim": float("nan")}, RecipeError, ("--min-ssim nan",), id="a floor that is no number"),
        pytest.param({"seed": -1}, RecipeError, ("--seed -1", "0 to"), id="negative seed"),
        pytest.param({"seed": 10**20}, RecipeError, ("--seed 1", "0 to"), id="endless seed"),
        pytest.param(
            {"start": "distill", "recipe": "export-only"}, RecipeError, ("--from distill", "it has load"), id="from, not there"
        ),
        pytest.param({"discriminator": Path("d.pt")}, CheckpointError, ("d.pt does not exist",), id="no discriminator file"),
        pytest.param({"perceptual": Path("vgg.pt")}, CheckpointError, ("vgg.pt does not exist",), id="no perceptual file"),
        pytest.param({"fps": -30.0}, RecipeError, ("--fps -30",), id="negative frames"),
        pytest.param({"latency": "33"}, RecipeError, ("'33'", "33ms"), id="latency without unit"),
        pytest.param({"max_size": "4MB"}, RecipeError, ("'4MB'", "4MiB"), id="ambiguous size"),
        pytest.param({"resolution": "256by256"}, RecipeError, ("'256by256'", "256x256"), id="resolution"),
        pytest.param({"until": "distil"}, RecipeError, ("'distil'", "'distill'"), id="until, misspelt stage"),
        pytest.param({"start": "pruning"}, RecipeError, ("'pruning'", "'prune'"), id="from, misspelt stage"),
        pytest.param({"target": "jetson-orin-nona"}, TargetError, ("'jetson-orin-nona'", "'jetson-orin-nano'"), id="target"),
        pytest.param({"recipe": "ballanced"}, RecipeError, ("'ballanced'", "'balanced'"), id="recipe"),
    ],
)
def test_a_wrong_value_is_named_with_the_way_out(
    checkpoint: Path, options: dict[str, Any], kind: type[EdgegenError], words: tuple[str, ...]
) -> None:
    with pytest.raises(kind) as caught:
        ask(checkpoint, **options)
    told = f"{caught.value.message} {caught.value.hint}"
    assert all(word in told for word in words), told


@pytest.mark.parametrize(("option", "words"), [("discriminator", "no adversarial loss"), ("perceptual", "no loss uses it")])
def test_a_network_that_no_loss_uses_is_refused_before_anything_runs(checkpoint: Path, option: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        require_loss_files(ask(checkpoint, **{option: checkpoint}))
    require_loss_files(ask(checkpoint, until="prune", **{option: checkpoint}))  # it is not asked for before distillation


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing.pt does not exist"):
        ask(tmp_path / "nothing.pt")


@pytest.mark.parametrize(("text", "seconds"), [("33ms", 0.033), ("0.5s", 0.5), ("900us", 0.0009), (" 16.6 ms ", 0.0166)])
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "ms", "0ms", "-1ms", "1e3ms", "33 minutes", "33ms33"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="is not a duration"):
        parse_seconds(text)


@pytest.mark.parametrize(("text", "count"), [("1B", 1), ("1KiB", 1024), ("1.5MiB", 3 << 19), ("2GiB", 2 << 30)])
def test_sizes_are_read(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "0B", "4M", "4MB", "4 mib", "0.1B", "-4MiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="is not a size"):
        parse_bytes(text)


@pytest.mark.parametrize(("text", "height_width"), [("256x192", (192, 256)), ("64", (64, 64)), (" 8x8 ", (8, 8))])
def test_resolutions_are_width_times_height(text: str, height_width: tuple[int, int]) -> None:
    assert parse_resolution(text) == height_width


@pytest.mark.parametrize("text", ["", "0x8", "8x0", "x8", "8x8x8", "256*256", "123456"])
def test_what_is_no_resolution_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="is not a resolution"):
        parse_resolution(text)


def test_multiply_accumulates_as_a_goal_and_a_latency_are_refused_together(checkpoint: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    balanced = (Path(__file__).parents[1] / "recipes" / "balanced.toml").read_text()
    recipe.write_text(balanced.replace('goal = "latency"', 'goal = "macs"'))
    require_one_goal(ask(checkpoint, recipe=str(recipe)))
    with pytest.raises(RecipeError, match="prunes to a number of multiply-accumulates, and a latency of 33 ms") as caught:
        require_one_goal(ask(checkpoint, recipe=str(recipe), latency="33ms"))
    assert "prune.goal" in caught.value.hint
