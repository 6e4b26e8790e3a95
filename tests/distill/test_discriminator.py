import pytest
import torch
from torch import nn

from edgegen.distill.discriminator import load_discriminator, new_discriminator, shrink_discriminator
from edgegen.errors import CheckpointError, RecipeError


def patch_gan(norm: type[nn.Module], in_channels: int) -> nn.Sequential:
    """The PatchGAN of pix2pix and CycleGAN with 2 hidden halvings, named model.0, model.2 ... as there."""
    bias = norm is nn.InstanceNorm2d
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(4, 8, 4, 2, 1, bias=bias), norm(8), nn.LeakyReLU(0.2),
        nn.Conv2d(8, 16, 4, 1, 1, bias=bias), norm(16), nn.LeakyReLU(0.2),
        nn.Conv2d(16, 1, 4, 1, 1),
    )  # fmt: skip


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.InstanceNorm2d])
def test_a_patch_discriminator_is_rebuilt_with_the_norms_that_leave_no_tensors(norm):
    original = nn.ModuleDict({"model": patch_gan(norm, 6)}).eval()
    rebuilt = load_discriminator(original.state_dict(), (32, 32))
    images = torch.randn((2, 6, 32, 32), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(rebuilt(images), original["model"](images), atol=1e-6)


def test_a_dcgan_discriminator_ends_in_one_logit():
    original = nn.ModuleDict({"main": nn.Sequential(
        nn.Conv2d(3, 4, 4, 2, 1, bias=False), nn.LeakyReLU(0.2), nn.Conv2d(4, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8),
        nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 4, 1, 0, bias=False),
    )}).eval()  # fmt: skip
    rebuilt = load_discriminator(original.state_dict(), (16, 16))
    images = torch.randn((2, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(rebuilt(images), original["main"](images), atol=1e-6)
    assert rebuilt(images).shape == (2, 1, 1, 1)


class FaceCritic(nn.Module):
    """The discriminator of dcgan_faces32 as its authors define it."""

    def __init__(self) -> None:
        super().__init__()
        widths = [32, 64, 128, 256]
        self.conv1 = nn.Sequential(nn.Conv2d(3, 32, 4, 2, 1, bias=False))
        for index, (before, after) in enumerate(zip(widths, widths[1:], strict=False), start=2):
            setattr(self, f"conv{index}", nn.Sequential(nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after)))
        self.fc1 = nn.Linear(1024, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        for index in range(1, 5):
            image = nn.functional.leaky_relu(getattr(self, f"conv{index}")(image), 0.2)
        return self.fc1(image.flatten(1))


def test_the_real_face_discriminator_is_rebuilt_as_its_authors_define_it(shared_checkpoints):
    state = torch.load(shared_checkpoints / "dcgan_faces32" / "discriminator_2.pth", weights_only=True, map_location="cpu")
    original = FaceCritic().eval()
    original.load_state_dict(state)
    images = torch.rand((4, 3, 32, 32), generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.allclose(load_discriminator(state, (32, 32))(images), original(images), atol=1e-4)  # logits of about 20


@pytest.mark.parametrize(("side", "logits"), [(8, 2), (16, 2), (32, 2), (128, 14)])
def test_a_new_discriminator_judges_patches_of_any_size_from_eight_pixels(side, logits):
    judge = new_discriminator(3, side, share=0.5, seed=0)
    assert judge(torch.zeros(2, 3, side, side)).shape == (2, 1, logits, logits)


def test_a_new_discriminator_follows_the_students_width_and_the_seed():
    judges = [new_discriminator(3, 64, share=share, seed=0) for share in (1.0, 0.25, 0.01)]
    widths = [[layer.out_channels for layer in judge.layers if isinstance(layer, nn.Conv2d)] for judge in judges]
    assert widths == [[64, 128, 256, 512, 1], [16, 32, 64, 128, 1], [8, 8, 8, 8, 1]]
    ours, same, other = (new_discriminator(3, 32, share=0.2, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(tensor, same[name]) for name, tensor in ours.items())
    assert not torch.equal(ours["layers.0.weight"], other["layers.0.weight"])


def test_a_new_discriminator_starts_with_logits_of_the_order_of_one():
    pictures = torch.rand((8, 3, 64, 64), generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert 0.05 < new_discriminator(3, 64, share=0.5, seed=0)(pictures).square().mean().sqrt() < 5


def test_a_new_discriminator_of_tiny_pictures_is_refused():
    with pytest.raises(RecipeError, match="cannot judge pictures of 4 pixels"):
        new_discriminator(3, 4, share=1.0, seed=0)


def test_shrinking_keeps_the_strongest_channels_and_leaves_the_given_one_alone():
    first, second = nn.Conv2d(3, 16, 4, 2, 1), nn.Conv2d(16, 1, 4, 1, 0, bias=False)
    with torch.no_grad():
        first.weight[::2] *= 1e-3  # eight channels that hardly matter
        first.bias[::2] = 0.0
    whole = load_discriminator({"0.weight": first.weight, "0.bias": first.bias, "1.weight": second.weight}, (8, 8))
    images = torch.randn((4, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    before = whole(images)
    shrunk = shrink_discriminator(whole, 0.5)
    assert shrunk.layers[0].out_channels == 8
    assert torch.allclose(shrunk(images), before, atol=1e-2)
    assert torch.equal(whole(images), before)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.InstanceNorm2d])
def test_a_channel_that_its_normalisation_switches_off_goes_first(norm):
    conv, behind = nn.Conv2d(3, 16, 4, 2, 1, bias=False), norm(16, affine=True)
    with torch.no_grad():
        behind.weight[:8] = 0.0
    state = {"0.weight": conv.weight, **{f"1.{name}": t for name, t in behind.state_dict().items()},
             "3.weight": torch.randn(1, 16, 4, 4)}  # fmt: skip
    shrunk = shrink_discriminator(load_discriminator(state, (8, 8)), 0.5)
    assert torch.equal(shrunk.layers[0].weight, conv.weight[8:])
    assert shrunk(torch.zeros(1, 3, 8, 8)).shape == (1, 1, 1, 1)


def test_the_real_face_discriminator_is_shrunk_through_its_linear_layer(shared_checkpoints):
    state = torch.load(shared_checkpoints / "dcgan_faces32" / "discriminator_2.pth", weights_only=True, map_location="cpu")
    whole = load_discriminator(state, (32, 32))
    images = torch.rand((4, 3, 32, 32), generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(shrink_discriminator(whole, 1.0)(images), whole(images))
    shrunk = shrink_discriminator(whole, 0.25)
    assert shrunk(images).shape == whole(images).shape
    assert sum(p.numel() for p in shrunk.parameters()) < 0.1 * sum(p.numel() for p in whole.parameters())


def test_a_layer_that_is_no_4x4_convolution_is_named():
    with pytest.raises(CheckpointError, match="'0.weight' of shape"):
        load_discriminator({"0.weight": torch.zeros(4, 3, 3, 3)}, (32, 32))


def test_a_resolution_that_does_not_fit_is_named():
    state = {"a.weight": torch.zeros(4, 3, 4, 4), "fc.weight": torch.zeros(1, 4 * 16 * 16)}
    with pytest.raises(CheckpointError, match="does not fit images of 64x64"):
        load_discriminator(state, (64, 64))
