"""Train the pix2pix generator of this example: label map -> street scene, U-Net against PatchGAN, in the classic loop.

    python examples/automotive/train.py --minutes 28 --out street_unet.safetensors

Runs on one CPU core. Every two minutes the generator is written, next to it a sheet of samples (.png) and the state
(.training.pt) from which `--resume` goes on. Scenes are rendered as training goes: none is seen more than a few times, and
none of those that the tests and cases use (seeds from 900,000) is seen at all.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import time
from pathlib import Path

import numpy as np
import torch
from canvas import CLASSES, PALETTE
from networks import PatchDiscriminator, UnetGenerator
from PIL import Image
from render import scene
from safetensors.torch import save_file
from torch.nn import functional

logger = logging.getLogger("train")


SALIENT = [CLASSES.index(name) for name in ("car", "pedestrian", "pole")]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything the loop depends on; the learning rate falls linearly to zero over the whole time. Shares are of that time."""

    minutes: float
    seed: int = 1
    width: int = 24
    batch: int = 4
    learning_rate: float = 1e-3
    l1_weight: float = 200.0
    salient_weight: float = 3.0
    """Weight of small things people look at (cars, pedestrians, poles) in the L1 loss, against 1 for the rest."""
    pool: int = 1200
    steps_per_fresh_scene: int = 2
    alone_share: float = 0.6
    """First part, on L1 alone: a discriminator there from the start won at once and taught checkerboards (22.7 dB at 12 min)."""
    frozen_share: float = 0.15
    """Last part, in which BatchNorm uses its running statistics, as it will when the generator is deployed."""


class ScenePool:
    """The most recent `size` rendered scenes."""

    def __init__(self, size: int, first_seed: int) -> None:
        self._next_seed = first_seed
        self._scenes = [self._render() for _ in range(size)]

    def _render(self) -> tuple[np.ndarray, np.ndarray]:
        self._next_seed += 1
        return scene(self._next_seed)

    def refresh(self) -> None:
        """Render one more scene in place of the oldest."""
        self._scenes[self._next_seed % len(self._scenes)] = self._render()

    def batch(self, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one-hot label maps (N, classes, H, W) in {0, 1} and pictures (N, 3, H, W) in [-1, 1]."""
        chosen = [self._scenes[i] for i in rng.integers(len(self._scenes), size=count)]
        return one_hot([labels for labels, _ in chosen]), to_tensor([picture for _, picture in chosen])


def one_hot(label_maps: list[np.ndarray]) -> torch.Tensor:
    """Turn label maps (H, W) of ids into a tensor (N, classes, H, W) of zeros and ones."""
    ids = torch.from_numpy(np.stack(label_maps).astype(np.int64))
    return functional.one_hot(ids, len(CLASSES)).permute(0, 3, 1, 2).float().contiguous()


def to_tensor(pictures: list[np.ndarray]) -> torch.Tensor:
    """Turn uint8 pictures (H, W, 3) into a tensor (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().div(127.5).sub(1.0).contiguous()


class Trainer:
    """Generator, discriminator, their optimisers and how long they have trained."""

    def __init__(self, settings: Settings) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.generator = UnetGenerator(len(CLASSES), 3, num_downs=7, ngf=settings.width)
        self.discriminator = PatchDiscriminator(len(CLASSES) + 3, ndf=24)
        for network in (self.generator, self.discriminator):
            network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (torch's stubs lack it)
        adam = {"lr": settings.learning_rate, "betas": (0.5, 0.999)}
        self.generator_adam = torch.optim.Adam(self.generator.parameters(), **adam)
        self.discriminator_adam = torch.optim.Adam(self.discriminator.parameters(), **adam)
        self.step = 0
        self.seconds = 0.0

    def train_step(self, labels: torch.Tensor, pictures: torch.Tensor) -> dict[str, float]:
        """One update of the discriminator, once it takes part, then one of the generator. Returns the losses."""
        share = self.seconds / (60 * self.settings.minutes)
        for adam in (self.generator_adam, self.discriminator_adam):
            adam.param_groups[0]["lr"] = self.settings.learning_rate * max(1 - share, 0.01)
        self.generator.train(share < 1 - self.settings.frozen_share)
        fake = self._in_bfloat16(self.generator, labels)
        losses = {}
        adversarial = torch.zeros(())
        if share > self.settings.alone_share:
            losses["d"] = self._discriminator_step(labels, pictures, fake.detach())
            self.discriminator.requires_grad_(False)
            adversarial = (self._score(labels, fake) - 1).square().mean()
        weight = 1 + (self.settings.salient_weight - 1) * labels[:, SALIENT].sum(1, keepdim=True)
        l1 = ((fake - pictures).abs() * weight).mean()
        self.generator_adam.zero_grad(set_to_none=True)
        (adversarial + self.settings.l1_weight * l1).backward()
        self.generator_adam.step()
        self.discriminator.requires_grad_(True)
        self.step += 1
        return {**losses, "adversarial": adversarial.item(), "l1": l1.item()}

    def _discriminator_step(self, labels: torch.Tensor, pictures: torch.Tensor, fake: torch.Tensor) -> float:
        real_score, fake_score = self._score(labels, pictures), self._score(labels, fake)
        loss = 0.5 * ((real_score - 1).square().mean() + fake_score.square().mean())
        self.discriminator_adam.zero_grad(set_to_none=True)
        loss.backward()
        self.discriminator_adam.step()
        return loss.item()

    def _score(self, labels: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
        return self._in_bfloat16(self.discriminator, torch.cat([labels, pictures], 1))

    @staticmethod
    def _in_bfloat16(network: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Run a network with bfloat16 arithmetic: 1.7x the steps per second on an AVX512-BF16 core; weights stay float32."""
        with torch.autocast("cpu", torch.bfloat16):
            return network(x.contiguous(memory_format=torch.channels_last)).float()

    def save(self, out: Path) -> None:
        """Write the generator to `out` (convolutions in half precision) and the state of training beside it; both atomically."""
        tensors = {k: v.half() if v.dim() == 4 else v for k, v in self.generator.state_dict().items()}
        part = out.with_suffix(".part")
        save_file({k: v.contiguous() for k, v in tensors.items()}, str(part), metadata={"licence": "Apache-2.0"})
        part.replace(out)
        torch.save({**self._parts(), "step": self.step, "seconds": self.seconds}, part)
        part.replace(out.with_suffix(".training.pt"))

    def resume(self, out: Path) -> None:
        """Go on from what `save` wrote."""
        state = torch.load(out.with_suffix(".training.pt"), weights_only=True)
        for name in self._parts():
            getattr(self, name).load_state_dict(state[name])
        self.step, self.seconds = state["step"], state["seconds"]

    def _parts(self) -> dict[str, dict]:
        names = ("generator", "discriminator", "generator_adam", "discriminator_adam")
        return {name: getattr(self, name).state_dict() for name in names}


def save_samples(generator: torch.nn.Module, path: Path, shown: int = 6) -> float:
    """Draw 32 unseen scenes; show some as label map over generated over rendered picture. Returns the mean PSNR in dB."""
    scenes = [scene(seed) for seed in range(910_000, 910_032)]
    generator.eval()
    with torch.no_grad():
        made = generator(one_hot([labels for labels, _ in scenes])).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy()
    columns = [
        np.concatenate([np.asarray(PALETTE, np.uint8)[labels], image, picture])
        for (labels, picture), image in zip(scenes[:shown], made, strict=False)
    ]
    Image.fromarray(np.concatenate(columns, 1)).save(path, optimize=True)
    errors = [np.mean((image.astype(float) - picture) ** 2) for image, (_, picture) in zip(made, scenes, strict=True)]
    return float(np.mean(10 * np.log10(255**2 / np.asarray(errors))))


def train(settings: Settings, out: Path, resume: bool) -> None:
    """Train until the time is up, or go on from the last save."""
    trainer = Trainer(settings)
    if resume:
        trainer.resume(out)
    rng = np.random.default_rng([settings.seed, trainer.step])
    pool = ScenePool(settings.pool, trainer.step // settings.steps_per_fresh_scene)
    saved_s = trainer.seconds
    while trainer.seconds < 60 * settings.minutes:
        began = time.monotonic()
        if trainer.step % settings.steps_per_fresh_scene == 0:
            pool.refresh()
        losses = trainer.train_step(*pool.batch(settings.batch, rng))
        trainer.seconds += time.monotonic() - began
        if trainer.step % 100 == 0:
            logger.info("step %d, %.1f min, %s", trainer.step, trainer.seconds / 60, {k: round(v, 4) for k, v in losses.items()})
        if trainer.seconds - saved_s > 120:
            saved_s = trainer.seconds
            trainer.save(out)
            logger.info("saved %s, %.2f dB on unseen scenes", out, save_samples(trainer.generator, out.with_suffix(".png")))
    trainer.save(out)
    logger.info("done: %.2f dB on unseen scenes", save_samples(trainer.generator, out.with_suffix(".png")))


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train the label map -> street scene generator.")
    parser.add_argument("--minutes", type=float, default=28.0, help="training time, rendering included")
    parser.add_argument("--out", type=Path, default=Path("street_unet.safetensors"), help="where the generator goes")
    parser.add_argument("--resume", action="store_true", help="go on from the last save of --out")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--pool", type=int, default=Settings.pool, help="rendered scenes kept at a time")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    train(Settings(minutes=options.minutes, pool=options.pool), options.out, options.resume)


if __name__ == "__main__":
    main()
