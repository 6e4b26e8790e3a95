"""Wrappers, prefixes and number formats that people's checkpoints come with, and what is said when nothing fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.errors import CheckpointError
from edgegen.graph import example_inputs
from edgegen.load import load
from edgegen.load.detect import find_family
from edgegen.load.families import FAMILIES, all_families

_PREFIXES = [
    "module.",
    "_orig_mod.",
    "netG.",
    "generator.",
    "G.",
    "model.",
    "_orig_mod.module.",
    "module.netG.",
    "generator.module.",
]
_WRAPPERS = [
    "state_dict",
    "params",
    "params_ema",
    "model",
    "generator",
    "netG",
    "G_ema",
    "g_ema",
    "model_state_dict",
    "my_own_name",
]


@pytest.fixture(params=["dcgan 16", "cyclegan", "unet", "plain coder", "vae 32", "srgan x4"])
def plain(request: pytest.FixtureRequest, cases):
    """A few generators whose own names look like prefixes."""
    return cases[request.param]


def _check(case, path: Path) -> None:
    generator = load(path, resolution=case.resolution)
    inputs = example_inputs(generator.spec)
    with torch.no_grad():
        assert generator.family == case.family
        assert torch.equal(generator.module(*inputs), case.module()(*inputs))


@pytest.mark.parametrize("prefix", _PREFIXES)
def test_a_prefix_that_all_tensors_share_is_stripped(plain, tmp_path: Path, prefix: str) -> None:
    torch.save({prefix + key: value for key, value in plain.state().items()}, tmp_path / "g.pt")
    _check(plain, tmp_path / "g.pt")


@pytest.mark.parametrize("wrapper", _WRAPPERS)
def test_a_wrapper_is_opened(cases, tmp_path: Path, wrapper: str) -> None:
    case = cases["cyclegan"]
    torch.save({wrapper: case.state(), "epoch": 3, "optimizer": {"state": {}, "lr": 0.1}}, tmp_path / "g.pt")
    _check(case, tmp_path / "g.pt")


def test_a_generator_is_found_beside_its_discriminator(cases, tmp_path: Path) -> None:
    case = cases["dcgan 16"]
    judge = {"main.0.weight": torch.zeros(8, 3, 4, 4), "main.2.weight": torch.zeros(1, 8, 4, 4)}
    flat = {f"generator.{k}": v for k, v in case.state().items()} | {f"discriminator.{k}": v for k, v in judge.items()}
    torch.save({"state_dict": flat, "hyper_parameters": {"lr": 1e-3}}, tmp_path / "flat.ckpt")
    torch.save({"netG": case.state(), "netD": judge}, tmp_path / "nested.ckpt")
    _check(case, tmp_path / "flat.ckpt")
    _check(case, tmp_path / "nested.ckpt")


@pytest.mark.parametrize(
    "arrange",
    [
        lambda own, averaged: {"params": own, "params_ema": averaged},
        lambda own, averaged: {"g": own, "d": {}, "g_ema": averaged},
        lambda own, averaged: {"state_dict": own, "ema": {"decay": 0.999, "shadow": averaged}},
        lambda own, averaged: {f"G.{k}": v for k, v in own.items()} | {f"G_ema.{k}": v for k, v in averaged.items()},
    ],
)
def test_averaged_weights_are_preferred(cases, tmp_path: Path, arrange: Callable) -> None:
    case = cases["dcgan 16"]
    own = {key: value * 0 for key, value in case.state().items()}
    torch.save(arrange(own, case.state()), tmp_path / "g.pt")
    _check(case, tmp_path / "g.pt")


def test_two_generators_in_a_file_are_not_guessed_between(cases, tmp_path: Path) -> None:
    state = cases["cyclegan"].state()
    torch.save({"G_A": state, "G_B": {k: v + 1 for k, v in state.items()}}, tmp_path / "pair.pt")
    with pytest.raises(CheckpointError, match="holds several generators: G_A, G_B"):
        load(tmp_path / "pair.pt")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_width_become_float32(cases, tmp_path: Path, dtype: torch.dtype) -> None:
    case = cases["pix2pix resnet, batch norm"]
    torch.save({k: v.to(dtype) if v.is_floating_point() else v for k, v in case.state().items()}, tmp_path / "g.pt")
    generator = load(tmp_path / "g.pt", resolution=(32, 32))
    inputs = example_inputs(generator.spec)
    with torch.no_grad():
        got, expected = generator.module(*inputs), case.module()(*inputs)
    assert got.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in generator.module.parameters())
    assert (got - expected).abs().max() < (1e-6 if dtype == torch.float64 else 0.3)  # bf16 keeps 8 bits of each weight


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(cases, tmp_path: Path, bad: float) -> None:
    state = cases["dcgan 16"].state()
    state["main.3.weight"][0, 0, 0, 0] = bad
    torch.save(state, tmp_path / "g.pt")
    with pytest.raises(CheckpointError, match=r"'main.3.weight' holds NaN or Inf"):
        load(tmp_path / "g.pt")


def test_an_unknown_generator_names_the_nearest_family_and_the_key_that_told_it_apart(cases, tmp_path: Path) -> None:
    state = {**cases["cyclegan"].state(), "model.99.attention.weight": torch.zeros(3, 3)}
    torch.save(state, tmp_path / "g.pt")
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "g.pt")
    assert "no family matches" in caught.value.message
    assert "nearest are resnet (model.99.attention.weight is not a tensor of this family)" in caught.value.message
    assert "--arch file.py:Net --trust" in caught.value.hint
    assert caught.value.exit_code == 3


def test_a_real_discriminator_is_told_for_what_it_is(shared_checkpoints: Path) -> None:
    with pytest.raises(CheckpointError, match="no family matches") as caught:
        load(shared_checkpoints / "dcgan_faces32" / "discriminator_2.pth")
    assert "not the discriminator's" in caught.value.hint


def test_a_segmenter_with_one_output_channel_is_not_called_a_discriminator(tmp_path: Path) -> None:
    state = {
        "down.weight": torch.zeros(32, 3, 3, 3),
        "deep.weight": torch.zeros(64, 32, 3, 3),
        "mask.weight": torch.zeros(1, 32, 1, 1),
    }
    torch.save(state, tmp_path / "s.pt")
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "s.pt")
    assert "--arch" in caught.value.hint


@pytest.mark.parametrize("content", [{"epoch": 3}, {}, {"a": {"b": [1, 2]}}, {3: "x"}])
def test_a_file_without_tensors_is_refused(tmp_path: Path, content: dict) -> None:
    torch.save(content, tmp_path / "g.pt")
    with pytest.raises(CheckpointError, match="holds no tensors"):
        load(tmp_path / "g.pt")


_KEYS = st.sampled_from([
    "main.0.weight", "main.1.weight", "model.1.weight", "model.model.0.weight",
    "model.10.conv_block.1.weight", "conv1.conv2d.weight", "conv1.0.weight", "encoder.0.weight",
    "decoder.0.weight", "decoder.lin1.weight", "decoder.convT1.weight", "fc1.weight",
    "block1.0.weight", "block2.conv1.weight", "l.0.conv.weight", "l.1.c1.conv.weight",
    "conv_first.weight", "conv_input.weight", "upscale.0.weight", "in_conv.0.weight",
])  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(_KEYS, st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=12))
def test_any_mixture_of_names_and_shapes_gets_an_answer(shapes: dict[str, list[int]]) -> None:
    state = {key: torch.zeros(shape) for key, shape in shapes.items()}
    try:
        found = find_family(Path("odd.pt"), state, FAMILIES)
        found.family.build(found.view.state, found.match)
    except CheckpointError as error:
        assert "no family matches" in error.message


def test_families_of_installed_packages_come_after_our_own() -> None:
    assert all_families()[: len(FAMILIES)] == FAMILIES
    assert len({family.name for family in all_families()}) == len(all_families())
