"""The two networks of pix2pix; the generator has the tensor names of the original code, by which its family is recognised."""

from __future__ import annotations

import torch
from torch import nn


class UnetGenerator(nn.Module):
    """Map (N, input_nc, H, W) to (N, output_nc, H, W) in [-1, 1]; H and W are multiples of 2 ** num_downs, num_downs >= 5."""

    def __init__(self, input_nc: int, output_nc: int, num_downs: int, ngf: int) -> None:
        super().__init__()
        block = UnetBlock(ngf * 8, ngf * 8, None)
        for _ in range(num_downs - 5):
            block = UnetBlock(ngf * 8, ngf * 8, block)
        for outer in (4, 2, 1):
            block = UnetBlock(ngf * outer, ngf * outer * 2, block)
        self.model = OutermostBlock(input_nc, output_nc, ngf, block)
        self.apply(_start)

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        """Draw the scenes."""
        return self.model(labels)


class OutermostBlock(nn.Module):
    """From the input to half its size, through the inner blocks and back; no skip connection around it."""

    def __init__(self, input_nc: int, output_nc: int, inner_nc: int, submodule: nn.Module) -> None:
        super().__init__()
        down = nn.Conv2d(input_nc, inner_nc, 4, 2, 1, bias=False)
        up = nn.ConvTranspose2d(inner_nc * 2, output_nc, 4, 2, 1)
        self.model = nn.Sequential(down, submodule, nn.ReLU(), up, nn.Tanh())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run down, inside and up."""
        return self.model(x)


class UnetBlock(nn.Module):
    """One level of the U: its input is joined to what comes back up. Without a submodule it is the innermost one."""

    def __init__(self, outer_nc: int, inner_nc: int, submodule: nn.Module | None) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.LeakyReLU(0.2), nn.Conv2d(outer_nc, inner_nc, 4, 2, 1, bias=False)]
        if submodule is not None:
            layers += [nn.BatchNorm2d(inner_nc), submodule]
        widened = inner_nc if submodule is None else inner_nc * 2
        layers += [nn.ReLU(), nn.ConvTranspose2d(widened, outer_nc, 4, 2, 1, bias=False), nn.BatchNorm2d(outer_nc)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x and what the deeper levels made of it, side by side."""
        return torch.cat([x, self.model(x)], 1)


class PatchDiscriminator(nn.Module):
    """Map (N, input_nc, H, W), label map and picture, to one score per overlapping 70x70 patch: 1 real, 0 made up."""

    def __init__(self, input_nc: int, ndf: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(input_nc, ndf, 4, 2, 1), nn.LeakyReLU(0.2)]
        for width, stride in ((ndf, 2), (ndf * 2, 2), (ndf * 4, 1)):
            layers += [nn.Conv2d(width, width * 2, 4, stride, 1, bias=False), nn.BatchNorm2d(width * 2), nn.LeakyReLU(0.2)]
        self.model = nn.Sequential(*layers, nn.Conv2d(ndf * 8, 1, 4, 1, 1))
        self.apply(_start)

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        """Score the patches."""
        return self.model(pair)


def _start(module: nn.Module) -> None:
    """Give a layer the initial weights of the pix2pix paper."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
