"""What stands or moves in the street: cars, pedestrians, trees, lamps and traffic lights."""

from __future__ import annotations

import numpy as np
from canvas import CLASSES, Camera, Canvas, Colour, Light, Point

TREE, CAR, PEDESTRIAN, POLE = (CLASSES.index(name) for name in ("tree", "car", "pedestrian", "pole"))

# A body's silhouette tells its paint: half width, waist and roof heights, half width of the roof, length (metres), colour.
BODIES: tuple[tuple[float, float, float, float, float, Colour], ...] = (
    (0.90, 0.95, 1.45, 0.62, 4.2, (186, 40, 38)),  # saloon
    (1.02, 1.25, 2.25, 0.98, 5.0, (52, 92, 168)),  # van
    (0.92, 0.95, 1.45, 0.64, 4.4, (240, 190, 40)),  # taxi, with a sign on its roof
    (0.98, 1.10, 1.75, 0.82, 4.4, (226, 228, 230)),  # off-roader
)
TAXI = 2
COATS: tuple[tuple[Colour, Colour], ...] = (
    ((52, 88, 160), (48, 50, 62)),  # striding
    ((206, 70, 60), (206, 70, 60)),  # in a long skirt
    ((232, 184, 64), (72, 60, 52)),  # standing
)


def draw_car(canvas: Canvas, camera: Camera, light: Light, place: Point, body: int, away: bool) -> None:
    """Draw a car whose nearest face is at `place` (x, z); `away` shows its rear and red lights, else its front."""
    half, waist, roof, half_roof, length, paint = BODIES[body]
    x, near = place
    far = near + length
    project = camera.project
    base = 0.28
    shadow = [project(x - half * 1.15, 0, near - 0.3), project(x + half * 1.15, 0, near - 0.3),
              project(x + half * 1.1, 0, far), project(x - half * 1.1, 0, far)]  # fmt: skip
    canvas.polygon(shadow, light.on((40, 41, 46), near))
    seen = 1.0 if x < camera.offset_x else -1.0  # the side that turns to the camera
    side = x + seen * half
    side_roof = x + seen * half_roof
    flank = [project(side, base, near), project(side, waist, near), project(side, waist, far), project(side, base, far)]
    canvas.polygon(flank, light.on(paint, near, 0.62), CAR)
    cab_near, cab_far = near + 0.15, far - (1.2 if body != 1 else 0.3)
    cabin = [project(side, waist, cab_near), project(side_roof, roof, cab_near + 0.2),
             project(side_roof, roof, cab_far - 0.3), project(side, waist, cab_far)]  # fmt: skip
    canvas.polygon(cabin, light.on((46, 54, 66), near), CAR)
    for axle in (near + 0.8, far - 0.8):
        (wx, wy), (_, wt) = project(side, 0.33, axle), project(side, 0.66, axle)
        canvas.ellipse((wx, wy), (abs(project(side, 0, axle - 0.33)[0] - wx) + 0.001, abs(wt - wy)), (24, 24, 28), CAR)
    _draw_face(canvas, camera, light, place, body, away)


def _draw_face(canvas: Canvas, camera: Camera, light: Light, place: Point, body: int, away: bool) -> None:
    """The near end of a car: wheels, body, windscreen, lights and number plate."""
    half, waist, roof, half_roof, _, paint = BODIES[body]
    x, z = place

    def panel(low: Point, high: Point, colour: Colour, class_id: int | None = None) -> None:
        canvas.box(camera.project(x + low[0], high[1], z), camera.project(x + high[0], low[1], z), colour, class_id)

    def trapezoid(bottom: Point, top: Point, colour: Colour, class_id: int | None = None) -> None:
        corners = [(-bottom[0], bottom[1]), (bottom[0], bottom[1]), (top[0], top[1]), (-top[0], top[1])]
        canvas.polygon([camera.project(x + dx, y, z) for dx, y in corners], colour, class_id)

    for wheel in (-1, 1):
        panel((wheel * half * 0.78 - 0.14, 0.0), (wheel * half * 0.78 + 0.14, 0.45), (22, 22, 26), CAR)
    trapezoid((half * 0.95, waist), (half_roof, roof), light.on(paint, z, 0.95), CAR)
    trapezoid((half * 0.84, waist + 0.02), (half_roof * 0.88, roof - 0.12), light.on((58, 72, 90), z))
    trapezoid((half * 0.96, 0.26), (half, waist * 0.7), light.on(paint, z, 0.82), CAR)
    trapezoid((half, waist * 0.6), (half * 0.95, waist), light.on(paint, z, 1.0), CAR)
    panel((-half * 0.9, 0.24), (half * 0.9, 0.42), light.on((52, 52, 56), z))
    panel((-0.28, 0.46), (0.28, 0.6), light.on((236, 236, 228), z))
    if body == TAXI:
        panel((-0.28, roof - 0.02), (0.28, roof + 0.24), light.on((250, 244, 210), z), CAR)
    lamp = (206, 34, 30) if away else (255, 246, 214)
    for end in (-1, 1):
        panel((end * half * 0.76 - 0.16, waist * 0.66), (end * half * 0.76 + 0.16, waist * 0.88), lamp)
        if light.dusk:
            halo = (110, 22, 18) if away else (170, 150, 110)
            canvas.glow(camera.project(x + end * half * 0.76, waist * 0.77, z), 0.2 / z, halo, CAR)


def draw_pedestrian(canvas: Canvas, camera: Camera, light: Light, place: Point, pose: int) -> None:
    """Draw someone at `place` (x, z): 0 strides, 1 wears a long skirt, 2 stands."""
    coat, trousers = COATS[pose]
    x, z = place

    def shape(points: list[Point], colour: Colour) -> None:
        canvas.polygon([camera.project(x + dx, y, z) for dx, y in points], light.on(colour, z), PEDESTRIAN)

    unit = camera.focal / z
    canvas.ellipse(camera.project(x, 0.0, z), (0.36 * unit, 0.07 * unit), light.on((96, 92, 90), z))
    if pose == 0:
        shape([(-0.12, 0.9), (0.06, 0.9), (-0.2, 0.0), (-0.4, 0.0)], trousers)
        shape([(-0.06, 0.9), (0.12, 0.9), (0.4, 0.0), (0.2, 0.0)], trousers)
    elif pose == 1:
        shape([(-0.17, 1.0), (0.17, 1.0), (0.38, 0.3), (-0.38, 0.3)], coat)
        shape([(-0.13, 0.3), (0.13, 0.3), (0.12, 0.0), (-0.12, 0.0)], (214, 168, 138))
    else:
        shape([(-0.17, 0.9), (0.17, 0.9), (0.15, 0.0), (-0.15, 0.0)], trousers)
    shape([(-0.26, 0.82), (0.26, 0.82), (0.24, 1.45), (-0.24, 1.45)], coat)
    head = camera.project(x, 1.62, z)
    canvas.ellipse(head, (0.14 * unit, 0.17 * unit), light.on((222, 176, 146), z), PEDESTRIAN)
    canvas.ellipse((head[0], head[1] - 0.08 * unit), (0.14 * unit, 0.1 * unit), light.on((62, 44, 34), z))


def draw_tree(canvas: Canvas, camera: Camera, light: Light, place: Point, height: float, rng: np.random.Generator) -> None:
    """Draw a tree at `place` (x, z): a trunk and a crown of leaf balls, bright towards the sun on the upper left."""
    x, z = place
    unit = camera.focal / z
    foot, fork = camera.project(x, 0, z), camera.project(x, height * 0.5, z)
    canvas.ellipse(foot, (0.8 * unit, 0.12 * unit), light.on((120, 114, 104), z))
    canvas.box((foot[0] - 0.16 * unit, fork[1]), (foot[0] + 0.16 * unit, foot[1]), light.on((92, 68, 50), z), TREE)
    radius = height * 0.3
    angles = np.linspace(0, 2 * np.pi, 7, endpoint=False) + rng.uniform(0, 1)
    balls = [(x + radius * 0.75 * np.cos(a), height * 0.68 + radius * 0.75 * np.sin(a)) for a in angles]
    balls = [(x, height * 0.68), *sorted(balls, key=lambda ball: ball[1])]
    sizes = rng.uniform(0.46, 0.66, len(balls)) * radius
    for (bx, by), size in zip(balls, sizes, strict=True):
        canvas.ellipse(camera.project(bx, by, z), (size * unit, size * unit), light.on((44, 82, 38), z), TREE)
    for (bx, by), size in zip(balls, sizes, strict=True):
        bright = 0.75 + 0.45 * (by / height - 0.5) * 2 - 0.12 * (bx - x) / radius
        centre = camera.project(bx - size * 0.16, by + size * 0.18, z)
        canvas.ellipse(centre, (size * 0.8 * unit, size * 0.78 * unit), light.on((78, 128, 52), z, bright))
    for _ in range(40):
        angle, reach = rng.uniform(0, 2 * np.pi), radius * np.sqrt(rng.uniform(0, 0.8))
        lx, ly = x + reach * np.cos(angle), height * 0.68 + reach * np.sin(angle)
        bright = 0.7 + 0.4 * (ly / height - 0.5) * 2 + rng.uniform(-0.18, 0.18)
        canvas.ellipse(camera.project(lx, ly, z), (0.14 * unit, 0.12 * unit), light.on((92, 142, 58), z, bright))


def draw_street_lamp(canvas: Canvas, camera: Camera, light: Light, place: Point) -> None:
    """Draw a lamp post at `place` (x, z) with its arm over the road; it shines at dusk."""
    x, z = place
    metal = light.on((84, 90, 92), z)
    project = camera.project
    canvas.box(project(x - 0.08, 6.0, z), project(x + 0.08, 0, z), metal, POLE)
    canvas.box(project(x - 0.13, 0.9, z), project(x + 0.13, 0, z), metal, POLE)
    reach = x - np.sign(x) * 1.5
    canvas.box(project(min(x, reach), 6.1, z), project(max(x, reach), 5.95, z), metal, POLE)
    lamp = light.on((226, 228, 222), z) if not light.dusk else (255, 236, 190)
    canvas.box(project(reach - 0.35, 6.05, z), project(reach + 0.35, 5.82, z), lamp, POLE)
    if light.dusk:
        canvas.glow(project(reach, 5.9, z), 0.45 / z, (150, 110, 60), POLE)


def draw_traffic_light(canvas: Canvas, camera: Camera, light: Light, place: Point) -> None:
    """Draw a traffic light at `place` (x, z): it shows green on the right of the road and red on the left."""
    x, z = place
    project = camera.project
    canvas.box(project(x - 0.09, 2.6, z), project(x + 0.09, 0, z), light.on((62, 66, 70), z), POLE)
    canvas.box(project(x - 0.27, 3.9, z), project(x + 0.27, 2.5, z), light.on((34, 36, 40), z), POLE)
    on = 2 if x > 0 else 0
    for number, (bright, dark) in enumerate(
        (((255, 64, 48), (92, 32, 30)), ((255, 200, 60), (96, 78, 30)), ((70, 240, 120), (26, 78, 46)))
    ):
        centre = project(x, 3.68 - 0.44 * number, z)
        radius = 0.17 * camera.focal / z
        canvas.ellipse(centre, (radius, radius), bright if number == on else light.on(dark, z))
        if number == on and light.dusk:
            canvas.glow(centre, 0.22 / z, (0.35 * bright[0], 0.35 * bright[1], 0.35 * bright[2]), POLE)
