"""Channel groups follow every construct that generators are made of."""

import pytest
import torch
from torch import nn

from edgegen.graph import trace
from edgegen.layers import Reshape
from edgegen.prune.groups import channel_groups


class SuperResolver(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.act, self.body = nn.Conv2d(3, 16, 3, 1, 1), nn.PReLU(), nn.Conv2d(16, 16, 3, 1, 1)
        self.up, self.shuffle, self.act2 = nn.Conv2d(16, 64, 3, 1, 1), nn.PixelShuffle(2), nn.PReLU(16)
        self.out = nn.Conv2d(16, 3, 3, 1, 1)

    def forward(self, x):
        x = self.act(self.stem(x))
        return self.out(self.act2(self.shuffle(self.up(x + self.body(x)))))


class DenseStem(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.fold, self.norm = nn.Linear(10, 32), Reshape((8, 2, 2)), nn.InstanceNorm2d(8, affine=True)
        self.up, self.out = nn.ConvTranspose2d(8, 6, 4, 2, 1), nn.Conv2d(6, 3, 3, 1, 1)

    def forward(self, x):
        return self.out(torch.relu(self.up(self.norm(self.fold(self.fc(x))))))


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 4, 2, 1), nn.Conv2d(8, 8, 4, 2, 1)
        self.c, self.d = nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.ConvTranspose2d(16, 3, 4, 2, 1)

    def forward(self, x):
        a = self.a(x)
        return self.d(torch.cat([a, self.c(torch.relu(self.b(torch.relu(a))))], 1))


def groups_of(module, x):
    return {g.root: {(m.layer, m.side): m.channels for m in g.members} for g in channel_groups(trace(module), (x,))}


def test_a_residual_stream_is_one_group_and_the_picture_none():
    groups = groups_of(SuperResolver(), torch.randn(1, 3, 8, 8))
    stream = next(g for g in groups.values() if ("stem", "out") in g)
    assert {("stem", "out"), ("body", "out"), ("body", "in"), ("up", "in")} <= set(stream)
    assert not any(("out", "out") in g for g in groups.values())


def test_in_front_of_a_pixel_shuffle_channels_go_in_fours():
    up = groups_of(SuperResolver(), torch.randn(1, 3, 8, 8))["up"]
    assert up["up", "out"][1] == (4, 5, 6, 7) and up["act2", "out"][1] == (1,) and up["out", "in"][1] == (1,)


def test_a_dense_stem_loses_the_features_of_a_whole_channel():
    fc = groups_of(DenseStem(), torch.randn(1, 10))["fc"]
    assert fc["fc", "out"][2] == (8, 9, 10, 11) and fc["norm", "out"][2] == (2,) and fc["up", "in"][2] == (2,)


def test_a_concatenation_shifts_the_channels_of_its_second_input():
    groups = groups_of(Skip(), torch.randn(1, 3, 16, 16))
    assert groups["c"]["d", "in"][1] == (9,) and groups["a"]["d", "in"][1] == (1,)


@pytest.mark.parametrize("module", [SuperResolver(), Skip()])
def test_each_channel_of_a_side_belongs_to_one_unit(module):
    for group in channel_groups(trace(module), (torch.randn(1, 3, 16, 16),)):
        for member in group.members:
            flat = [c for unit in member.channels for c in unit]
            assert len(flat) == len(set(flat))
