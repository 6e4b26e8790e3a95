"""Two drawings kept in step: a picture and the label map that says what each of its pixels shows.

Everything is drawn `OVERSAMPLING` times larger than asked for. The picture is then averaged down; the label map keeps the centre
sample of every block, so an id is never blended with another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

CLASSES = (
    "day_sky", "dusk_sky", "cloud", "road", "lane_mark", "sidewalk", "brick", "plaster",
    "concrete", "roof", "window", "lit_window", "tree", "car", "pedestrian", "pole",
)  # fmt: skip
"""Class names; the index is the id in a label map. Sixteen: a first convolution likes a multiple of eight channels."""

PALETTE = (
    (135, 190, 235), (60, 50, 110), (240, 240, 240), (70, 70, 80), (255, 255, 0), (190, 170, 150), (170, 60, 40), (230, 200, 120),
    (130, 140, 160), (110, 40, 40), (60, 110, 150), (255, 180, 60), (40, 130, 40), (200, 0, 200), (255, 80, 80), (0, 0, 0),
)  # fmt: skip
"""Colours in which label maps are shown to people, one per class."""

OVERSAMPLING = 3
"""Odd, so that a block of samples has a centre."""

Colour = tuple[float, float, float]
Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Light:
    """Daylight or dusk: what it does to a surface colour. Colours are RGB in [0, 255], `ambient` multiplies."""

    dusk: bool
    ambient: Colour
    haze: Colour
    zenith: Colour
    horizon: Colour

    def on(self, colour: Colour, depth: float = 0.0, facing: float = 1.0) -> Colour:
        """Return `colour` as seen `depth` metres away on a surface that catches `facing` (about 0.5 to 1.2) of the light."""
        veil = 1.0 - np.exp(-depth / 90.0)
        return tuple(c * facing * a * (1 - veil) + h * veil for c, a, h in zip(colour, self.ambient, self.haze, strict=True))


DAY = Light(False, (1.0, 0.98, 0.94), (198, 214, 228), (72, 128, 200), (206, 224, 236))
DUSK = Light(True, (0.42, 0.37, 0.50), (126, 88, 106), (34, 36, 84), (246, 150, 96))


@dataclasses.dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks down the street. World: metres, X right, Y up, Z ahead; image: units of its side, y down."""

    vanishing_x: float
    horizon_y: float
    offset_x: float
    focal: float = 0.72
    height: float = 1.7

    def project(self, x: float, y: float, z: float) -> Point:
        """Return where the world point (x, y, z), z > 0, appears in the image."""
        scale = self.focal / z
        return self.vanishing_x + (x - self.offset_x) * scale, self.horizon_y - (y - self.height) * scale


class Canvas:
    """A picture and a label map of the same scene; points are in units of the image side, colours RGB in [0, 255]."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.side = size * OVERSAMPLING
        self._picture = Image.new("RGB", (self.side, self.side))
        self._labels = Image.new("L", (self.side, self.side))
        self._paint = ImageDraw.Draw(self._picture)
        self._mark = ImageDraw.Draw(self._labels)
        self._glows: list[tuple[Point, float, Colour, int]] = []

    def sky(self, class_id: int, zenith: Colour, horizon: Colour, horizon_y: float) -> None:
        """Fill everything with a vertical gradient that ends at the horizon."""
        self._labels.paste(class_id, (0, 0, self.side, self.side))
        ramp = np.clip(np.linspace(0, 1, self.side) / horizon_y, 0, 1)[:, None, None] ** 1.4
        rows = np.asarray(zenith) * (1 - ramp) + np.asarray(horizon) * ramp
        column = np.broadcast_to(rows, (self.side, self.side, 3)).round().astype(np.uint8)
        self._picture.paste(Image.fromarray(column), (0, 0))

    def polygon(self, points: Sequence[Point], colour: Colour, class_id: int | None = None) -> None:
        """Fill a polygon; without a class the label map keeps what it has (shading, details of the same thing)."""
        corners = [(x * self.side, y * self.side) for x, y in points]
        self._paint.polygon(corners, fill=_rgb(colour))
        if class_id is not None:
            self._mark.polygon(corners, fill=class_id)

    def ellipse(self, centre: Point, radii: Point, colour: Colour, class_id: int | None = None) -> None:
        """Fill an axis-parallel ellipse."""
        (x, y), (rx, ry) = centre, radii
        box = [(x - rx) * self.side, (y - ry) * self.side, (x + rx) * self.side, (y + ry) * self.side]
        self._paint.ellipse(box, fill=_rgb(colour))
        if class_id is not None:
            self._mark.ellipse(box, fill=class_id)

    def box(self, low: Point, high: Point, colour: Colour, class_id: int | None = None) -> None:
        """Fill the rectangle between the corners `low` (left, top) and `high` (right, bottom)."""
        (left, top), (right, bottom) = low, high
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour, class_id)

    def glow(self, centre: Point, radius: float, colour: Colour, class_id: int) -> None:
        """Remember a light source of the given class: its halo is added to the finished picture if nothing hides the source."""
        self._glows.append((centre, radius, colour, class_id))

    def finish(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return the label map (H, W) and the picture (H, W, 3), both uint8, with halos and a trace of grain."""
        middle = OVERSAMPLING // 2
        labels = np.asarray(self._labels)[middle::OVERSAMPLING, middle::OVERSAMPLING].copy()
        picture = np.asarray(self._picture.resize((self.size, self.size), Image.Resampling.BOX), dtype=np.float64)
        y, x = (np.mgrid[0 : self.size, 0 : self.size] + 0.5) / self.size
        for (cx, cy), radius, colour, class_id in self._glows:
            row, column = int(cy * self.size), int(cx * self.size)
            if not (0 <= row < self.size and 0 <= column < self.size and labels[row, column] == class_id):
                continue
            halo = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * radius * radius))
            picture += halo[..., None] * np.asarray(colour)
        grain = rng.normal(0.0, 1.0, picture.shape[:2])
        return labels, np.clip(picture + grain[..., None], 0, 255).round().astype(np.uint8)


def _rgb(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (min(max(round(float(c)), 0), 255) for c in colour)
    return red, green, blue
