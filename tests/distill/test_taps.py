import pytest
import torch
from tiny import SIDE, painter
from torch import nn

from edgegen.distill.taps import fit_adapter, pair_taps, with_taps
from edgegen.graph import trace
from edgegen.layers import Clamp
from edgegen.spec import Kind, Layout, TensorSpec


def batch() -> tuple[torch.Tensor, ...]:
    return (torch.rand((2, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)),)


def test_pairs_are_named_alike_and_lie_at_different_resolutions_before_the_last_layer():
    names = pair_taps(painter(4, seed=1).module, painter(8, seed=2).module, batch())
    assert set(names) == {"stem_act", "norm", "act", "up_act"}  # not tanh: that is the output already
    assert pair_taps(painter(4, seed=1).module, painter(8, seed=2).module, batch(), count=2) == ("act", "up_act")


def test_layers_of_different_resolution_are_not_paired():
    class Coarse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.stem_act = nn.Conv2d(3, 4, 4, stride=4), nn.ReLU()
            self.head = nn.ConvTranspose2d(4, 3, 4, stride=4)

        def forward(self, image):
            return self.head(self.stem_act(self.stem(image)))

    assert pair_taps(trace(Coarse()), painter(8, seed=2).module, batch()) == ()


def test_a_tapped_graph_returns_the_same_image_and_shares_its_weights():
    generator = painter(4, seed=1)
    tapped = with_taps(generator.module, ("act", "up_act"))
    image, act, up_act = tapped(*batch())
    assert torch.equal(image, generator.module(*batch()))
    assert act.shape == (2, 4, SIDE // 2, SIDE // 2)
    assert up_act.shape == (2, 4, SIDE, SIDE)
    assert tapped.get_submodule("head").weight is generator.module.get_submodule("head").weight


def test_a_clamp_to_the_output_range_is_left_out_so_that_its_gradient_lives():
    module = trace(nn.Sequential(nn.Conv2d(3, 3, 1), Clamp(0.0, 1.0)))
    spec = TensorSpec("picture", Kind.IMAGE, (3, 4, 4), Layout.CHW, low=0.0, high=1.0)
    images = torch.full((1, 3, 4, 4), 100.0)
    assert with_taps(module, ())(images)[0].abs().max() <= 1.0
    assert with_taps(module, (), spec)(images)[0].abs().max() > 1.0


def test_an_adapter_finds_the_mixture_of_channels_that_the_teacher_has():
    student = torch.randn((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    mixture = nn.Conv2d(3, 5, 1)
    teacher = mixture(student).detach()
    error = (fit_adapter(student, teacher)(student) - teacher).abs().mean()
    assert error < 0.01 * teacher.abs().mean()  # the ridge of 1e-3 keeps it from being exact


@pytest.mark.parametrize("runs", [3, 4, 5, 9])
def test_the_deepest_layer_is_always_tapped(runs):
    class Ladder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList([nn.Conv2d(3, 3, 1) for _ in range(runs)])
            self.acts = nn.ModuleList([nn.ReLU() for _ in range(runs)])
            self.ups = nn.ModuleList([nn.Upsample(scale_factor=2.0 if i % 2 else 0.5) for i in range(runs)])
            self.head = nn.Conv2d(3, 3, 1)

        def forward(self, image):
            for conv, act, up in zip(self.convs, self.acts, self.ups, strict=True):
                image = act(conv(up(image)))
            return self.head(image)

    module = trace(Ladder())
    names = pair_taps(module, module, batch())
    assert names[-1] == f"acts_{runs - 1}"
    assert len(set(names)) == min(4, runs)
