"""The judging network on weights of VGG16's shape, narrow enough for a test."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgegen.distill.perceptual import load_perceptual
from edgegen.errors import CheckpointError

WIDTHS = (4, 4, "M", 6, 6, "M", 8, 8, 8, "M", 10, 10, 10, "M", 12, 12, 12)


def vgg16() -> nn.Sequential:
    """The layers of torchvision's `vgg16().features`, numbered as there."""
    layers, before = [], 3
    for width in WIDTHS:
        if width == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
    return nn.Sequential(*layers)


def state(prefix: str = "features.") -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in vgg16().state_dict().items()}


def heads() -> dict[str, torch.Tensor]:
    return {f"lin{level}.model.1.weight": torch.rand(1, width, 1, 1) for level, width in enumerate((4, 6, 8, 10, 12))}


def test_the_maps_are_those_before_each_halving_of_vgg16_on_imagenets_scale():
    original = vgg16().eval()
    network = load_perceptual({f"features.{name}": tensor for name, tensor in original.state_dict().items()})
    images = torch.rand((2, 3, 32, 40), generator=torch.Generator().manual_seed(0))
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x, expected = (images - mean.view(1, 3, 1, 1)) / deviation.view(1, 3, 1, 1), []
    for number, layer in enumerate(original):
        x = layer(x)
        if number in (3, 8, 15, 22, 29):
            expected.append(x)
    found = network(images)
    assert [tuple(tensor.shape) for tensor in found] == [
        (2, 4, 32, 40),
        (2, 6, 16, 20),
        (2, 8, 8, 10),
        (2, 10, 4, 5),
        (2, 12, 2, 2),
    ]
    assert all(torch.allclose(ours, theirs, atol=1e-6) for ours, theirs in zip(found, expected, strict=True))


def test_the_names_of_lpips_and_of_the_features_alone_are_read_too():
    plain = state()
    slices = {1: (0, 2), 2: (5, 7), 3: (10, 12, 14), 4: (17, 19, 21), 5: (24, 26, 28)}
    of = {number: index for index, numbers in slices.items() for number in numbers}
    lpips = {f"net.slice{of[int(n.split('.')[1])]}.{n.removeprefix('features.')}": t for n, t in plain.items()} | heads()
    bare = {name.removeprefix("features."): tensor for name, tensor in plain.items()}
    images = torch.rand((1, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    expected = load_perceptual(plain)(images)
    for other in (lpips, bare, plain | {"classifier.0.weight": torch.zeros(5, 5)}):
        assert all(torch.equal(a, b) for a, b in zip(load_perceptual(other)(images), expected, strict=True))
    assert [len(head) for head in load_perceptual(lpips).heads] == [4, 6, 8, 10, 12]
    assert load_perceptual(plain).heads == []


def test_grey_pictures_are_seen_and_small_ones_by_fewer_levels():
    network = load_perceptual(state())
    assert [tuple(tensor.shape[2:]) for tensor in network(torch.rand(1, 1, 8, 8))] == [(8, 8), (4, 4), (2, 2), (1, 1)]
    grey = torch.rand(1, 1, 16, 16)
    assert torch.equal(network(grey)[0], network(grey.repeat(1, 3, 1, 1))[0])


def test_the_network_is_frozen_and_passes_the_slope_to_the_picture():
    network = load_perceptual(state())
    image = torch.rand((1, 3, 16, 16), requires_grad=True)
    torch.stack([tensor.sum() for tensor in network(image)]).sum().backward()
    assert image.grad.abs().max() > 0
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"features.5.bias": None}, "lacks 'features.5.bias'"),
        ({"features.14.weight": None}, "lacks 'features.14.weight'"),
        ({"features.7.weight": torch.zeros(6, 5, 3, 3)}, "'features.7' of shape (6, 5, 3, 3) is not VGG16"),
        (heads() | {"lin2.model.1.weight": torch.rand(1, 9, 1, 1)}, "the heads of LPIPS do not fit"),
    ],
    ids=["no bias", "no weight", "other shape", "other heads"],
)
def test_a_file_that_is_not_vgg16_is_named(change, fact):
    broken = {name: tensor for name, tensor in (state() | change).items() if tensor is not None}
    with pytest.raises(CheckpointError) as caught:
        load_perceptual(broken)
    assert fact in caught.value.message
    assert "torchvision's vgg16" in caught.value.hint


def test_the_maps_stay_float32_for_pictures_of_a_bfloat16_run():
    network = load_perceptual(state())
    picture = torch.rand(1, 3, 16, 16).bfloat16()
    assert all(tensor.dtype is torch.float32 for tensor in network(picture))
    assert torch.equal(network(picture)[0], F.relu(network.blocks[0][1](F.relu(network.blocks[0][0](
        (picture.float() - network.mean) / network.deviation)))))  # fmt: skip
