"""Small generators of the usual shapes, with settled norms, and smooth pictures to feed them."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from edgegen.generator import Generator
from edgegen.graph import trace
from edgegen.layers import Reshape
from edgegen.spec import ComponentSpec, Kind, Layout, TensorSpec

SIDE = 32


class Residual(nn.Module):
    """x + norm(conv(activation(norm(conv(x)))))."""

    def __init__(self, channels: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = norm(channels)
        self.active = nn.PReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = norm(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.norm2(self.conv2(self.active(self.norm1(self.conv1(x)))))


class SuperResolver(nn.Module):
    """SRResNet in small: BatchNorm, PReLU, a long skip, PixelShuffle, tanh head."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 9, padding=4), nn.PReLU())
        self.body = nn.Sequential(Residual(channels, nn.BatchNorm2d), Residual(channels, nn.BatchNorm2d))
        self.mid = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels))
        self.up = nn.Sequential(nn.Conv2d(channels, 4 * channels, 3, padding=1), nn.PixelShuffle(2), nn.PReLU())
        self.head = nn.Conv2d(channels, 3, 9, padding=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stem = self.stem(x)
        return (torch.tanh(self.head(self.up(self.mid(self.body(stem)) + stem))) + 1) / 2


class Style(nn.Module):
    """Johnson's style network in small: reflection padding, InstanceNorm, nearest upsampling, sigmoid head."""

    def __init__(self) -> None:
        super().__init__()
        norm = _instance_norm
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(4), nn.Conv2d(3, 16, 9), norm(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), norm(32), nn.ReLU(),
            Residual(32, norm), Residual(32, norm),
            nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1), nn.Conv2d(32, 16, 3), norm(16), nn.ReLU(),
            nn.ReflectionPad2d(4), nn.Conv2d(16, 3, 9), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def _instance_norm(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)


class UNet(nn.Module):
    """pix2pix in small: strided convolutions down, ConvTranspose up, skips by Concat, tanh head."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        c = channels
        self.down1 = nn.Conv2d(3, c, 4, 2, 1)
        self.down2 = nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(c, 2 * c, 4, 2, 1), nn.BatchNorm2d(2 * c))
        self.down3 = nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(2 * c, 4 * c, 4, 2, 1), nn.BatchNorm2d(4 * c))
        self.up3 = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(4 * c, 2 * c, 4, 2, 1), nn.BatchNorm2d(2 * c))
        self.up2 = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(4 * c, c, 4, 2, 1), nn.BatchNorm2d(c))
        self.up1 = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(2 * c, 3, 4, 2, 1), nn.Tanh())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one = self.down1(x)
        two = self.down2(one)
        up = torch.cat([self.up3(self.down3(two)), two], 1)
        return self.up1(torch.cat([self.up2(up), one], 1))


class DenseSkips(nn.Module):
    """Concats that are read by convolutions and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.c, self.d = nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(24, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = torch.relu(self.a(x))
        b = 3 * torch.relu(self.b(a))
        c = self.c(torch.cat([a, b], 1))
        return torch.tanh(self.d(torch.cat([torch.cat([a, b], 1), c], 1)))


class Dcgan(nn.Module):
    """DCGAN in small, with a dense stem."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(16, 32 * 4 * 4), Reshape((32, 4, 4)), nn.BatchNorm2d(32), nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.layers(z)


def generator_of(net: nn.Module, shape: tuple[int, ...] = (3, SIDE, SIDE)) -> Generator:
    """Return `net` with seeded weights of the usual size and norms that have seen data; pictures in [0, 1] or latents."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    net.train()
    with torch.no_grad():
        for _ in range(30):
            net(torch.rand(8, *shape) if len(shape) == 3 else torch.randn(8, *shape))
        size = tuple(net.eval()(torch.zeros(1, *shape)).shape[1:])
    image = len(shape) == 3
    if image:
        given = TensorSpec("image", Kind.IMAGE, shape, Layout.CHW, low=0.0, high=1.0)
    else:
        given = TensorSpec("latent", Kind.LATENT, shape, Layout.D)
    made = TensorSpec("picture", Kind.IMAGE, size, Layout.CHW, low=0.0, high=1.0)
    return Generator(trace(net), ComponentSpec("generator", (given,), (made,)), "test", {}, {})


def samples(generator: Generator, count: int, seed: int) -> list[tuple[np.ndarray, ...]]:
    """Return seeded inputs: smooth pictures (six by six random colours, enlarged), or latents."""
    (spec,) = generator.spec.inputs
    random = torch.Generator().manual_seed(seed)
    if spec.kind is Kind.LATENT:
        return [(torch.randn(1, *spec.shape, generator=random).numpy(),) for _ in range(count)]
    small = torch.rand(count, spec.channels, 6, 6, generator=random)
    pictures = F.interpolate(small, (spec.height, spec.width), mode="bicubic").clamp(0, 1).numpy()
    return [(picture[None],) for picture in pictures]


def torch_outputs(generator: Generator, inputs: list[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """Return what the generator gives in torch for each sample."""
    with torch.no_grad():
        return [generator.module(*(torch.from_numpy(array) for array in sample)).numpy() for sample in inputs]


def psnr_db(results: list[np.ndarray], references: list[np.ndarray]) -> float:
    """Return PSNR over all pictures; the peak is the span of the references."""
    error = np.mean([np.mean(np.square(a - b)) for a, b in zip(results, references, strict=True)])
    span = max(r.max() for r in references) - min(r.min() for r in references)
    return float(10 * np.log10(span**2 / max(error, 1e-20)))
