"""Every family: a generator of known hyperparameters is saved, recognised from names and shapes, and draws the same pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.errors import CheckpointError
from edgegen.generator import load_generator, save_generator
from edgegen.graph import example_inputs
from edgegen.load import load
from edgegen.load.detect import find_family
from edgegen.load.families import FAMILIES, johnson_tf, resnet
from edgegen.load.family import Match
from edgegen.spec import Kind


def test_a_saved_generator_comes_back_with_its_hyperparameters_and_its_pictures(case, tmp_path: Path) -> None:
    path = tmp_path / "generator.pt"
    torch.save(case.state(), path)
    generator = load(path, resolution=case.resolution)
    assert generator.family == case.family
    assert json.loads(json.dumps(generator.hyperparameters)) == case.hyperparameters
    inputs = example_inputs(generator.spec, batch=2, seed=3)
    with torch.no_grad():
        got, expected = generator.module(*inputs), case.module()(*inputs)
    assert tuple(got.shape[1:]) == generator.spec.outputs[0].shape
    assert torch.equal(got, expected)  # the very same operations on the very same weights


def test_a_loaded_generator_survives_the_stage_cache(case, tmp_path: Path) -> None:
    torch.save(case.state(), tmp_path / "g.pt")
    generator = load(tmp_path / "g.pt", resolution=case.resolution)
    save_generator(generator, tmp_path)
    again = load_generator(tmp_path)
    assert (again.spec, again.hyperparameters, again.source) == (generator.spec, generator.hyperparameters, generator.source)
    inputs = example_inputs(generator.spec, seed=5)
    with torch.no_grad():
        assert torch.equal(again.module(*inputs), generator.module(*inputs))


def test_only_one_family_reads_a_state(case) -> None:
    accepting = [family.name for family in FAMILIES if isinstance(family.detect(case.state()), Match)]
    assert accepting == [case.family]


def test_a_state_that_lacks_or_gains_a_tensor_is_refused_or_read_but_never_breaks(case) -> None:
    state = case.state()
    changed = [{k: v for k, v in state.items() if k != gone} for gone in state]
    changed += [{**state, "extra.weight": torch.zeros(3)}]
    changed += [{**state, name: torch.zeros(*tensor.shape, 2)} for name, tensor in state.items()]
    for damaged in changed:
        try:
            found = find_family(Path("damaged.pt"), damaged, FAMILIES)
            found.family.build(found.view.state, found.match)
        except CheckpointError as error:
            assert "no family matches" in error.message


def test_the_state_is_left_alone(case) -> None:
    state = case.state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    found = find_family(Path("generator.pt"), state, FAMILIES)
    with torch.no_grad():
        for parameter in found.family.build(found.view.state, found.match).parameters():
            parameter.zero_()
    assert all(torch.equal(state[name], before[name]) for name in before)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_resnet_is_recognised_from_its_numbers(data: st.DataObject) -> None:
    paddings = st.sampled_from(["reflect", "zero"])
    hyperparameters = {
        "in_channels": data.draw(st.integers(1, 6)),
        "out_channels": data.draw(st.sampled_from([1, 3])),
        "widths": data.draw(st.lists(st.integers(2, 9), min_size=2, max_size=4, unique=True)),
        "blocks": data.draw(st.integers(1, 4)),
        "norm": data.draw(st.sampled_from(["batch", "instance", "instance-affine", "none"])),
        "padding": data.draw(paddings),
        "block_padding": data.draw(paddings),
        "kernels": [data.draw(st.sampled_from(sizes)) for sizes in ([5, 7, 9], [3, 4], [3, 7])],
        "up": data.draw(st.sampled_from(["transposed", "nearest", "bilinear"])),
        "up_kernel": 3,
        **{name: data.draw(st.booleans()) for name in ("bias", "up_bias", "head_bias", "dropout")},
    }
    state = resnet.ResnetGenerator(**hyperparameters).state_dict()
    match = resnet.ResnetGan().detect(state)
    assert isinstance(match, Match), match
    assert match.hyperparameters == hyperparameters


def test_raising_in_the_style_network_is_the_gradient_of_a_same_convolution() -> None:
    # That is how TensorFlow defines conv2d_transpose with SAME padding.
    up = johnson_tf.UpNorm(4, 3, 3).double()
    small = torch.randn(1, 4, 5, 6, dtype=torch.float64)
    large = torch.zeros(1, 3, 10, 12, dtype=torch.float64, requires_grad=True)
    F.conv2d(F.pad(large, (0, 1, 0, 1)), up.conv.weight, stride=2).backward(small)
    assert large.grad is not None
    assert torch.allclose(up.crop(up.conv(small)), large.grad, atol=1e-12)


def test_label_channels_make_a_label_map_of_the_input(cases, tmp_path: Path) -> None:
    torch.save(cases["unet from labels, seven levels"].state(), tmp_path / "g.pt")
    (tensor,) = load(tmp_path / "g.pt").spec.inputs
    assert (tensor.kind, tensor.channels, tensor.low, tensor.high) == (Kind.LABEL_MAP, 12, 0.0, 1.0)
    assert (tensor.height, tensor.width) == (128, 128)


def test_blocks_of_different_layouts_are_not_taken_for_one_family(cases) -> None:
    state = cases["cyclegan"].state()
    mixed = {key.replace("11.conv_block.5.", "11.conv_block.6."): value for key, value in state.items()}
    with pytest.raises(CheckpointError, match="differs in padding or dropout"):
        find_family(Path("mixed.pt"), mixed, FAMILIES)


def test_what_tensors_cannot_tell_is_said(cases, tmp_path: Path) -> None:
    torch.save(cases["cyclegan, bilinear resize"].state(), tmp_path / "g.pt")
    assert "the resize is bilinear (the mode leaves no trace)" in load(tmp_path / "g.pt").source["assumed"]


def test_unused_running_statistics_of_instance_norm_are_dropped(cases, tmp_path: Path) -> None:
    state = cases["cyclegan"].state()
    old = {**state, "model.2.running_mean": torch.ones(4), "model.2.running_var": torch.ones(4)}
    for name, prefix in (("plain", state), ("with statistics", old)):
        torch.save(prefix, tmp_path / f"{name}.pt")
    plain, same = (load(tmp_path / f"{name}.pt", resolution=(32, 32)) for name in ("plain", "with statistics"))
    inputs = example_inputs(plain.spec)
    assert torch.equal(plain.module(*inputs), same.module(*inputs))


def test_counters_that_old_torch_versions_did_not_save_are_not_missed(cases, tmp_path: Path) -> None:
    case = cases["pix2pix resnet, batch norm"]
    torch.save({k: v for k, v in case.state().items() if not k.endswith("num_batches_tracked")}, tmp_path / "old.pt")
    assert load(tmp_path / "old.pt", resolution=(32, 32)).hyperparameters == case.hyperparameters


@pytest.mark.parametrize(
    ("name", "resolution", "hint"),
    [
        ("cyclegan", (30, 32), "28 or 32"),
        ("unet", (48, 64), "32 or 64"),
        ("patches", (24, 32), "20 or 32"),
        ("johnson", (32, 33), "32 or 36"),
    ],
)
def test_a_resolution_that_the_strides_cannot_divide_is_refused_with_ones_that_fit(
    cases, tmp_path, name, resolution, hint
) -> None:
    torch.save(cases[name].state(), tmp_path / "g.pt")
    with pytest.raises(CheckpointError, match="do not suit the strides") as caught:
        load(tmp_path / "g.pt", resolution=resolution)
    assert hint in caught.value.hint


@pytest.mark.parametrize("name", ["dcgan 16", "dcgan, dense", "vae 32"])
def test_a_latent_generator_has_one_resolution(cases, tmp_path: Path, name: str) -> None:
    torch.save(cases[name].state(), tmp_path / "g.pt")
    size = load(tmp_path / "g.pt").spec.outputs[0]
    assert load(tmp_path / "g.pt", resolution=(size.height, size.width)).spec.outputs[0] == size
    with pytest.raises(CheckpointError, match="pictures, not 256x256"):
        load(tmp_path / "g.pt", resolution=(256, 256))


def test_a_resolution_too_small_for_the_padding_is_refused(cases, tmp_path: Path) -> None:
    torch.save(cases["johnson"].state(), tmp_path / "g.pt")
    with pytest.raises(CheckpointError, match="cannot run on inputs of 3x4x4"):
        load(tmp_path / "g.pt", resolution=(4, 4))
