"""Every construct that generators are made of can be cut: the picture keeps its shape, and dead units go without a trace."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgegen.graph import trace
from edgegen.layers import DepthToSpace, Reshape
from edgegen.prune.allocate import Allocation
from edgegen.prune.cut import remove_units
from edgegen.prune.groups import ChannelGroup, channel_groups


class InstanceNormWithStatistics(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.norm = nn.InstanceNorm2d(8, affine=True, track_running_stats=True)
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        return self.b(torch.relu(self.norm(self.a(x))))


class BatchNormed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        return self.b(F.leaky_relu(self.norm(self.a(x)), 0.2))


class Shuffled(nn.Module):
    """PixelShuffle up and PixelUnshuffle down."""

    def __init__(self):
        super().__init__()
        self.a, self.up, self.act = nn.Conv2d(3, 32, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(8)
        self.down, self.b = nn.PixelUnshuffle(2), nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, x):
        return self.b(self.down(self.act(self.up(self.a(x)))))


class ShuffledByFunction(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        return self.b(torch.relu(F.pixel_shuffle(self.a(x), 2)))


class DepthShuffled(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.up, self.b = nn.Conv2d(3, 16, 3, padding=1), DepthToSpace(2, 1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        return self.b(torch.relu(self.up(self.a(x))))


class SkipConcat(nn.Module):
    """A U-Net: the features of the way down are concatenated on the way up."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 4, 2, 1), nn.Conv2d(8, 16, 4, 2, 1)
        self.c, self.d = nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.ConvTranspose2d(16, 3, 4, 2, 1)

    def forward(self, x):
        a = F.leaky_relu(self.a(x), 0.2)
        return torch.tanh(self.d(torch.cat([torch.relu(self.c(torch.relu(self.b(a)))), a], 1)))


class SharedStream(nn.Module):
    """Two residual blocks and a long skip add to one stream."""

    def __init__(self):
        super().__init__()
        self.stem, self.out = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.inner = nn.ModuleList(nn.Conv2d(8, 12, 3, padding=1) for _ in range(2))
        self.outer = nn.ModuleList(nn.Conv2d(12, 8, 3, padding=1) for _ in range(2))
        self.act = nn.PReLU(12)

    def forward(self, x):
        first = x = self.stem(x)
        for inner, outer in zip(self.inner, self.outer, strict=True):
            x = x + outer(self.act(inner(x)))
        return self.out(torch.add(x, first))


class AdaIN(nn.Module):
    """A style vector scales and shifts normalised features."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.norm, self.mapping = nn.InstanceNorm2d(8), nn.Linear(4, 16)
        self.scale, self.shift, self.fold = nn.Linear(16, 8), nn.Linear(16, 8), Reshape((8, 1, 1))

    def forward(self, x, style):
        w = torch.relu(self.mapping(style))
        x = self.norm(self.a(x)) * self.scale(w).unsqueeze(2).unsqueeze(3)
        return self.b(torch.relu(x + self.fold(self.shift(w))))


class Spade(nn.Module):
    """A map, convolved, scales and shifts normalised features."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.norm, self.shared = nn.InstanceNorm2d(8), nn.Conv2d(2, 6, 3, padding=1)
        self.gamma, self.beta = nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)

    def forward(self, x, label):
        s = torch.relu(self.shared(label))
        x = self.norm(self.a(x))
        return self.b(torch.relu(x * (1 + self.gamma(s)) + self.beta(s)))


class Modulated(nn.Module):
    """Modulated convolution as scaled inputs and a demodulation of the outputs (StyleGAN2 on activations)."""

    def __init__(self):
        super().__init__()
        self.a, self.conv, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 3, 1)
        self.style, self.demod = nn.Linear(4, 8), nn.Linear(4, 6)

    def forward(self, x, w):
        x = self.a(x) * self.style(w).view(-1, 8, 1, 1)
        x = self.conv(x) * self.demod(w).reshape(-1, 6, 1, 1)
        return self.b(torch.relu(x))


class DenseStem(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.fold, self.act = nn.Linear(10, 32), Reshape((8, 2, 2)), nn.PReLU(8)
        self.up, self.out = nn.ConvTranspose2d(8, 6, 4, 2, 1), nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x):
        return self.out(torch.relu(self.up(self.act(self.fold(self.fc(x))))))


class DenseStemByView(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.up = nn.Linear(10, 32), nn.ConvTranspose2d(8, 6, 4, 2, 1)
        self.out = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x):
        return self.out(torch.relu(self.up(torch.relu(self.fc(x).view(-1, 8, 2, 2)))))


class Separable(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.deep = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.point, self.out = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        return self.out(torch.relu(self.point(torch.relu(self.deep(self.a(x))))))


class Bottleneck(nn.Module):
    """Features become a vector and features again."""

    def __init__(self):
        super().__init__()
        self.a, self.flat, self.press = nn.Conv2d(3, 8, 4, 4), nn.Flatten(), nn.Linear(8 * 16, 12)
        self.grow, self.fold, self.b = nn.Linear(12, 128), Reshape((8, 4, 4)), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        code = torch.relu(self.press(self.flat(torch.relu(self.a(x)))))
        return self.b(torch.relu(self.fold(self.grow(code))))


IMAGE, LATENT, STYLE, LABEL = (3, 16, 16), (10,), (4,), (2, 16, 16)
CONSTRUCTS = {
    InstanceNormWithStatistics: (IMAGE,), BatchNormed: (IMAGE,), Shuffled: (IMAGE,), ShuffledByFunction: (IMAGE,),
    DepthShuffled: (IMAGE,), SkipConcat: (IMAGE,), SharedStream: (IMAGE,), AdaIN: (IMAGE, STYLE), Spade: (IMAGE, LABEL),
    Modulated: (IMAGE, STYLE), DenseStem: (LATENT,), DenseStemByView: (LATENT,), Separable: (IMAGE,), Bottleneck: (IMAGE,),
}  # fmt: skip


def construct(kind):
    torch.manual_seed(0)
    return trace(kind()), tuple(torch.randn(2, *shape) for shape in CONSTRUCTS[kind])


def half_of(groups: list[ChannelGroup]) -> Allocation:
    drawn = random.Random(0)
    return Allocation({g.root: tuple(sorted(drawn.sample(range(g.unit_count), g.unit_count // 2))) for g in groups}, 0, 0, True)


@pytest.mark.parametrize("kind", CONSTRUCTS, ids=lambda kind: kind.__name__)
def test_half_of_all_units_can_go_and_the_picture_keeps_its_shape(kind):
    module, inputs = construct(kind)
    before = module(*inputs)
    groups = channel_groups(module, tuple(x[:1] for x in inputs))
    assert groups
    params = sum(p.numel() for p in module.parameters())
    remove_units(module, groups, half_of(groups), tuple(x[:1] for x in inputs))
    assert module(*inputs).shape == before.shape
    assert sum(p.numel() for p in module.parameters()) < 0.75 * params


@pytest.mark.parametrize("kind", CONSTRUCTS, ids=lambda kind: kind.__name__)
def test_units_that_nothing_reads_go_without_a_trace(kind):
    module, inputs = construct(kind)
    groups = channel_groups(module, tuple(x[:1] for x in inputs))
    allocation = half_of(groups)
    silence(module, groups, allocation)
    before = module(*inputs)
    remove_units(module, groups, allocation, tuple(x[:1] for x in inputs))
    assert torch.allclose(module(*inputs), before, atol=1e-6)


@torch.no_grad()
def silence(module, groups, allocation):
    """Set the weights to zero with which layers read the units that will go."""
    for group in groups:
        for member in group.members:
            layer = module.get_submodule(member.layer)
            if member.side != "in":
                continue
            for unit in allocation.removed[group.root]:
                channels = list(member.channels[unit])
                if isinstance(layer, nn.ConvTranspose2d):
                    layer.weight[channels] = 0
                else:
                    layer.weight[:, channels] = 0
