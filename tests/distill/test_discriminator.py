import pytest
import torch
from torch import nn

from edgegen.distill.discriminator import load_discriminator
from edgegen.errors import CheckpointError


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


def test_a_layer_that_is_no_4x4_convolution_is_named():
    with pytest.raises(CheckpointError, match="'0.weight' of shape"):
        load_discriminator({"0.weight": torch.zeros(4, 3, 3, 3)}, (32, 32))


def test_a_resolution_that_does_not_fit_is_named():
    state = {"a.weight": torch.zeros(4, 3, 4, 4), "fc.weight": torch.zeros(1, 4 * 16 * 16)}
    with pytest.raises(CheckpointError, match="does not fit images of 64x64"):
        load_discriminator(state, (64, 64))
