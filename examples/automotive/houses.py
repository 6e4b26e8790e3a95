"""Houses along the street: a wall that faces the camera, a wall that faces the street, windows, a cornice or a steep roof."""

from __future__ import annotations

import dataclasses

import numpy as np
from canvas import CLASSES, Camera, Canvas, Colour, Light, Point

BRICK, PLASTER, CONCRETE = CLASSES.index("brick"), CLASSES.index("plaster"), CLASSES.index("concrete")
ROOF, WINDOW, LIT_WINDOW = CLASSES.index("roof"), CLASSES.index("window"), CLASSES.index("lit_window")

STOREY = 3.1
WALL: dict[int, Colour] = {BRICK: (158, 84, 66), PLASTER: (226, 200, 152), CONCRETE: (150, 156, 164)}
TRIM: dict[int, Colour] = {BRICK: (214, 196, 172), PLASTER: (246, 238, 220), CONCRETE: (118, 124, 132)}
PANE: dict[int, tuple[float, float, float]] = {BRICK: (2.3, 1.1, 1.6), PLASTER: (2.7, 1.3, 1.8), CONCRETE: (2.9, 2.4, 1.7)}
"""Spacing, width and height of the windows in metres, by the material of the wall."""


@dataclasses.dataclass(frozen=True)
class _Wall:
    """A vertical wall from `start` to `end` (x, z) that catches `facing` of the light."""

    camera: Camera
    start: Point
    end: Point
    facing: float

    def at(self, along: float, y: float) -> Point:
        """Return the image point `along` (0 to 1) the wall at height y."""
        x, z = (a + (b - a) * along for a, b in zip(self.start, self.end, strict=True))
        return self.camera.project(x, y, z)

    def quad(self, low: Point, high: Point) -> list[Point]:
        """Return the image of the rectangle between (along, y) `low` and `high`."""
        (a, bottom), (b, top) = low, high
        return [self.at(a, bottom), self.at(b, bottom), self.at(b, top), self.at(a, top)]

    def depth(self, along: float) -> float:
        """Return the distance in metres at `along`."""
        return self.start[1] + (self.end[1] - self.start[1]) * along

    @property
    def length(self) -> float:
        """Length in metres."""
        return float(np.hypot(self.end[0] - self.start[0], self.end[1] - self.start[1]))


def draw_lot(
    canvas: Canvas, camera: Camera, light: Light, lot: tuple[float, float, float], material: int, rng: np.random.Generator
) -> None:
    """Draw the house on `lot` = (x of the wall along the street, near z, far z) in the given material."""
    wall_x, near, far = lot
    side = float(np.sign(wall_x))
    storeys = int(rng.integers(3, 8)) if material == CONCRETE else int(rng.integers(2, 6))
    height = storeys * STOREY + 0.6
    sunny = 1.06 if side > 0 else 0.86  # the sun stands on the left
    back = wall_x + side * 11.0
    _draw_wall(canvas, light, _Wall(camera, (wall_x, near), (back, near), 0.70), material, storeys, rng)
    street = _Wall(camera, (wall_x, near), (wall_x, far), sunny)
    pitched = material != CONCRETE and storeys <= 3
    if pitched:
        _draw_roof(canvas, light, camera, lot, height)
    _draw_wall(canvas, light, street, material, storeys, rng)


def _draw_roof(canvas: Canvas, light: Light, camera: Camera, lot: tuple[float, float, float], height: float) -> None:
    wall_x, near, far = lot
    side = float(np.sign(wall_x))
    inner, ridge = wall_x + side * 1.5, height + 2.7
    project = camera.project
    gable = [(wall_x, height), (inner, ridge), (wall_x + side * 9.5, ridge), (wall_x + side * 11, height)]
    canvas.polygon([project(x, y, near) for x, y in gable], light.on((112, 66, 58), near, 0.7), ROOF)
    for a, b in _slices(near, far):
        slope = [project(wall_x, height, a), project(wall_x, height, b), project(inner, ridge, b), project(inner, ridge, a)]
        canvas.polygon(slope, light.on((136, 78, 66), a, 1.05 if side > 0 else 0.85), ROOF)


def _draw_wall(canvas: Canvas, light: Light, wall: _Wall, material: int, storeys: int, rng: np.random.Generator) -> None:
    """Masonry in slices that fade with depth, darker towards the ground; a cornice on top; then the windows, storey by storey."""
    height = storeys * STOREY + 0.6
    near, far = wall.start[1], wall.end[1]
    cuts = [(a - near) / (far - near) for a, _ in _slices(near, far)] + [1.0] if far > near else [0.0, 1.0]
    for a, b in zip(cuts[:-1], cuts[1:], strict=True):
        depth = wall.depth(a)
        canvas.polygon(wall.quad((a, 0), (b, height)), light.on(WALL[material], depth, wall.facing), material)
        canvas.polygon(wall.quad((a, 0), (b, 0.7)), light.on(WALL[material], depth, wall.facing * 0.72))
        canvas.polygon(wall.quad((a, height - 0.5), (b, height)), light.on(TRIM[material], depth, wall.facing))
    for storey in range(storeys):
        _draw_windows(canvas, light, wall, material, storey, rng)


def _draw_windows(canvas: Canvas, light: Light, wall: _Wall, material: int, storey: int, rng: np.random.Generator) -> None:
    spacing, width, height = (2.9, 2.3, 2.1) if storey == 0 and material != PLASTER else PANE[material]
    count = int(wall.length / spacing)
    sill = storey * STOREY + (0.5 if height > 2 else 1.1)
    for column in range(count):
        middle = (column + 0.5) / count
        half = width / 2 / wall.length
        lit = light.dusk and rng.random() < 0.55
        depth = wall.depth(middle)
        if depth > 55:
            continue
        a, b, top = middle - half, middle + half, sill + height
        frame = wall.quad((a, sill), (b, top))
        edge = 0.12 * half
        class_id = LIT_WINDOW if lit else WINDOW
        canvas.polygon(frame, light.on(TRIM[material], depth, wall.facing), class_id)
        upper, lower = _pane_colours(light, lit, depth)
        canvas.polygon(wall.quad((a + edge, sill + 0.12), (b - edge, top - 0.1)), upper)
        canvas.polygon(wall.quad((a + edge, sill + 0.12), (b - edge, sill + height * 0.45)), lower)


def _pane_colours(light: Light, lit: bool, depth: float) -> tuple[Colour, Colour]:
    """Return the colours of the upper and the lower half of a pane: the sky's mirror image above, the room below."""
    if lit:
        fade = np.exp(-depth / 150)
        return (255 * fade, 208 * fade, 124 * fade), (242 * fade, 172 * fade, 84 * fade)
    if light.dusk:
        return light.on((120, 120, 170), depth), light.on((70, 74, 110), depth)
    return light.on((126, 156, 184), depth), light.on((62, 80, 100), depth)


def _slices(near: float, far: float) -> list[tuple[float, float]]:
    """Cut a stretch of street into pieces short enough for one shade of haze each."""
    cuts = np.linspace(near, far, max(2, int((far - near) / 2.5) + 1))
    return list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))
