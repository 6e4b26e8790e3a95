"""Street scenes drawn by rules: a label map and the picture that belongs to it. numpy and Pillow only.

    python examples/automotive/render.py --count 64 --out street_data

writes street_data/labels/*.png (one channel of class ids, see `canvas.CLASSES`) and street_data/pictures/*.png.

What a label map does not say must not show in the picture, or no generator could learn it: colours follow from the class and the
shape (a van is blue, a taxi yellow), light from the class of the sky. Only leaves and grain are left to chance.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from canvas import DAY, DUSK, Camera, Canvas, Light
from houses import draw_lot
from PIL import Image
from traffic import draw_car, draw_pedestrian, draw_street_lamp, draw_traffic_light, draw_tree

SKY_DAY, SKY_DUSK, CLOUD, ROAD, LANE_MARK, SIDEWALK, BRICK, PLASTER, CONCRETE = range(9)


def scene(seed: int, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Return the label map (size, size) uint8 of class ids and the picture (size, size, 3) uint8 RGB of scene `seed`.

    The same seed gives the same street at every size, and the same bytes at the same size.
    """
    rng = np.random.default_rng(seed)
    light = DUSK if rng.random() < 0.4 else DAY
    half_road = float(rng.choice([3.6, 4.4, 5.6]))
    camera = Camera(rng.uniform(0.42, 0.58), rng.uniform(0.46, 0.54), rng.uniform(0.1, 0.45) * half_road)
    canvas = Canvas(size)
    _draw_sky(canvas, camera, light, rng)
    _draw_ground(canvas, camera, light, half_road, crossing=rng.uniform(8, 14) if rng.random() < 0.45 else None)
    for side in (-1, 1):
        _draw_row(canvas, camera, light, side * (half_road + rng.uniform(2.2, 3.4)), rng)
    for _, draw in sorted(_street_life(canvas, camera, light, half_road, rng), key=lambda item: -item[0]):
        draw()
    return canvas.finish(rng)


def _draw_sky(canvas: Canvas, camera: Camera, light: Light, rng: np.random.Generator) -> None:
    """Gradient, flat-bottomed clouds lit from above (from the horizon at dusk) and a hazy skyline at the end of the street."""
    canvas.sky(SKY_DUSK if light.dusk else SKY_DAY, light.zenith, light.horizon, camera.horizon_y)
    crest, belly = ((196, 118, 122), (120, 80, 112)) if light.dusk else ((250, 251, 252), (214, 224, 234))
    for _ in range(rng.integers(1, 5)):
        x, y, width = rng.uniform(0, 1), rng.uniform(0.04, 0.34), rng.uniform(0.06, 0.14)
        puffs = [(x + t * width, y - width * rng.uniform(0.05, 0.2) * (1 - t * t), width * (0.42 - 0.25 * abs(t)))
                 for t in np.linspace(-1, 1, 6)]  # fmt: skip
        for px, py, radius in puffs:
            canvas.ellipse((px, py), (radius, radius * 0.55), belly, CLOUD)
        for px, py, radius in puffs:
            canvas.ellipse((px, py - radius * 0.13), (radius * 0.85, radius * 0.42), crest)
    for x in np.arange(-60, 60, 9.0):
        top = rng.uniform(5, 19)
        left, right = camera.project(x, top, 130), camera.project(x + rng.uniform(5, 9), 0, 130)
        canvas.box(left, right, light.on((150, 152, 158), 130), CONCRETE)


def _draw_ground(canvas: Canvas, camera: Camera, light: Light, half_road: float, crossing: float | None) -> None:
    """Pavement, kerb, road with a worn middle of each lane, dashed centre line, edge lines and perhaps a zebra crossing."""
    depths = np.geomspace(1.0, 400.0, 36)
    for near, far in zip(depths[-2::-1], depths[:0:-1], strict=True):

        def strip(low: float, high: float, colour: tuple[float, float, float], class_id: int | None, ends=(near, far)) -> None:
            near, far = ends
            points = [(low, near), (high, near), (high, far), (low, far)]
            canvas.polygon([camera.project(x, 0, z) for x, z in points], light.on(colour, near), class_id)

        strip(-300, 300, (172, 164, 154), SIDEWALK)
        for edge in (-1, 1):
            strip(edge * half_road, edge * (half_road + 0.3), (205, 200, 192), SIDEWALK)
        strip(-half_road, half_road, (92, 93, 98), ROAD)
        for lane in (-0.5, 0.5):
            for track in (-0.8, 0.8):
                strip(lane * half_road + track - 0.25, lane * half_road + track + 0.25, (86, 87, 92), None)

    def mark(x: float, width: float, near: float, far: float) -> None:
        corners = [(x - width, near), (x + width, near), (x + width, far), (x - width, far)]
        canvas.polygon([camera.project(cx, 0, z) for cx, z in corners], light.on((236, 234, 226), near), LANE_MARK)

    for start in np.arange(1.0, 60, 5.0):
        if crossing is None or not crossing - 3.5 < start < crossing + 4:
            mark(0, 0.09, start, start + 2.4)
    for edge in (-1, 1):
        for start, end in ((1.0, 60.0),) if crossing is None else ((1.0, crossing - 0.6), (crossing + 3.6, 60.0)):
            mark(edge * (half_road - 0.35), 0.07, start, end)
    if crossing is not None:
        for x in np.arange(-half_road + 0.5, half_road - 0.2, 1.0):
            mark(x, 0.26, crossing, crossing + 3)


def _draw_row(canvas: Canvas, camera: Camera, light: Light, wall_x: float, rng: np.random.Generator) -> None:
    """One side of the street, far lots first; each is a house, an office block or a garden with trees."""
    ends = [rng.uniform(2.0, 7.0)]
    while ends[-1] < 85:
        ends.append(ends[-1] + rng.uniform(7, 15))
    for near, far in zip(ends[-2::-1], ends[:0:-1], strict=True):
        material = int(rng.choice([BRICK, PLASTER, CONCRETE, -1], p=[0.34, 0.34, 0.2, 0.12]))
        if material >= 0:
            draw_lot(canvas, camera, light, (wall_x, near, far - 0.02), material, rng)
            continue
        for depth in (far - 2.0, near + 2.0):
            draw_tree(canvas, camera, light, (wall_x + np.sign(wall_x) * 2.5, depth), rng.uniform(4.5, 7.5), rng)


def _street_life(canvas: Canvas, camera: Camera, light: Light, half_road: float, rng: np.random.Generator) -> list:
    """Return (depth, function that draws it) for everything that stands or moves between the houses."""
    items = []

    def add(draw, x: float, depth: float, *rest) -> None:
        items.append((depth, lambda: draw(canvas, camera, light, (x, depth), *rest)))

    lamps = rng.uniform(6, 12)
    trees = rng.uniform(7, 16)
    for side in (-1, 1):
        for number in range(5):
            add(draw_street_lamp, side * (half_road + 0.5), lamps + 18 * number + 4 * side)
        if rng.random() < 0.7:
            for number in range(5):
                add(draw_tree, side * (half_road + 1.2), trees + 13 * number, rng.uniform(4.0, 6.5), rng)
        if rng.random() < 0.4:
            add(draw_traffic_light, side * (half_road + 0.4), rng.uniform(7, 13))
        for depth in rng.uniform(5, 30, rng.integers(1, 5)):
            add(draw_pedestrian, side * (half_road + rng.uniform(0.7, 2.0)), float(depth), int(rng.integers(3)))
        depth = rng.uniform(5.5, 14)
        for _ in range(rng.integers(1, 4)):
            add(draw_car, side * half_road * 0.5, depth, int(rng.integers(4)), side > 0)
            depth += rng.uniform(8, 22)
    if rng.random() < 0.35:
        add(draw_pedestrian, rng.uniform(-0.8, 0.8) * half_road, rng.uniform(7, 12), int(rng.integers(3)))
    return items


def write_scenes(out: Path, first_seed: int, count: int, size: int) -> None:
    """Write `count` scenes under out/labels and out/pictures, named by their seed."""
    for folder in ("labels", "pictures"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for seed in range(first_seed, first_seed + count):
        labels, picture = scene(seed, size)
        Image.fromarray(labels).save(out / "labels" / f"{seed:06d}.png", optimize=True)
        Image.fromarray(picture).save(out / "pictures" / f"{seed:06d}.png")


def main() -> None:
    """Read the command line and write the scenes."""
    parser = argparse.ArgumentParser(description="Render street scenes: label maps and pictures.")
    parser.add_argument("--count", type=int, default=64, help="how many scenes")
    parser.add_argument("--first-seed", type=int, default=900_000, help="seed of the first; training uses seeds below 100,000")
    parser.add_argument("--size", type=int, default=128, help="side of the pictures in pixels")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    options = parser.parse_args()
    write_scenes(options.out, options.first_seed, options.count, options.size)


if __name__ == "__main__":
    main()
