"""Draws scenes of coloured shapes and says in words what is in them.

The demo encoder learns from these pictures, its measurements are taken on them, and the demo
marketplace shows them. A scene knows its facts, so that for any caption it is certain of which
pictures it is true. Needs Pillow and numpy only.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 35),
    "orange": (250, 140, 20),
    "yellow": (250, 225, 40),
    "green": (30, 150, 60),
    "blue": (35, 80, 215),
    "purple": (130, 45, 165),
    "black": (20, 20, 20),
    "white": (248, 248, 248),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (248, 248, 248),
    "grey": (165, 165, 165),
    "black": (20, 20, 20),
    "yellow": (250, 225, 40),
    "green": (30, 150, 60),
    "blue": (35, 80, 215),
    "pink": (250, 185, 205),
}
PATTERNS = ("plain", "striped", "dotted", "checkered")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "diamond")
COUNTS = ("no", "one", "two", "three", "four", "five")
MOST_SHAPES = 5

# Straight-sided shapes as polygons within the unit circle, y pointing down.
_POLYGONS: dict[str, tuple[tuple[float, float], ...]] = {
    "square": ((-0.75, -0.75), (0.75, -0.75), (0.75, 0.75), (-0.75, 0.75)),
    "triangle": ((0.0, -0.95), (0.95, 0.75), (-0.95, 0.75)),
    # Taller than wide: a turned square would be told from a square by its angle alone.
    "diamond": ((0.0, -1.0), (0.62, 0.0), (0.0, 1.0), (-0.62, 0.0)),
    "cross": (
        (-0.3, -0.95), (0.3, -0.95), (0.3, -0.3), (0.95, -0.3), (0.95, 0.3), (0.3, 0.3),
        (0.3, 0.95), (-0.3, 0.95), (-0.3, 0.3), (-0.95, 0.3), (-0.95, -0.3), (-0.3, -0.3),
    ),
    "star": tuple(
        (
            (1.0 if point % 2 == 0 else 0.42) * math.sin(point * math.pi / 5),
            -(1.0 if point % 2 == 0 else 0.42) * math.cos(point * math.pi / 5),
        )
        for point in range(10)
    ),
    # The usual parametric heart, scaled into the unit circle.
    "heart": tuple(
        (
            math.sin(turn) ** 3,
            -(13 * math.cos(turn) - 5 * math.cos(2 * turn) - 2 * math.cos(3 * turn)
              - math.cos(4 * turn)) / 16 - 0.12,
        )
        for turn in (step * math.tau / 40 for step in range(40))
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape in a scene: position and radius as shares of the picture's side."""

    colour: str
    shape: str
    x: float
    y: float
    radius: float
    angle: float


@dataclass(frozen=True, slots=True)
class Scene:
    """What is in one picture. ``seed`` fixes the small irregularities of the drawing."""

    background: str
    pattern: str
    things: tuple[Thing, ...]
    seed: int


def random_scene(random: np.random.Generator) -> Scene:
    """Return a scene of none to five shapes on a background.

    Half of the scenes repeat one coloured shape, so that counts can be learnt; in the other
    half every shape is drawn for itself, so that colour and shape must be bound to each other.
    """
    count = int(random.choice(MOST_SHAPES + 1, p=[0.04, 0.24, 0.24, 0.2, 0.16, 0.12]))
    background = str(random.choice(list(BACKGROUNDS)))
    colours = [colour for colour in COLOURS if colour != background]
    kinds = [
        (str(random.choice(colours)), str(random.choice(SHAPES))) for _ in range(max(count, 1))
    ]
    if random.random() < 0.5:
        kinds = kinds[:1] * count
    return compose(kinds[:count], random, background=background)


def compose(
    kinds: list[tuple[str, str]],
    random: np.random.Generator,
    *,
    background: str | None = None,
    pattern: str | None = None,
) -> Scene:
    """Return a scene with these (colour, shape) pairs at random places that do not overlap.

    A background or pattern that is left out is chosen at random, and differs from every shape.
    """
    taken = {colour for colour, _ in kinds}
    if background is None:
        background = str(random.choice([name for name in BACKGROUNDS if name not in taken]))
    if pattern is None:
        pattern = str(random.choice(PATTERNS, p=[0.4, 0.2, 0.2, 0.2]))
    largest = {0: 0.36, 1: 0.36, 2: 0.25, 3: 0.22, 4: 0.2, 5: 0.185}[len(kinds)]
    things: list[Thing] = []
    while len(things) < len(kinds):
        things = []
        for colour, shape in kinds:
            radius = float(random.uniform(0.75, 1.0)) * largest
            for _ in range(30):
                x, y = (float(random.uniform(radius, 1 - radius)) for _ in "xy")
                if all(math.hypot(x - o.x, y - o.y) > radius + o.radius for o in things):
                    angle = float(random.uniform(-0.2, 0.2))  # radians: about 11 degrees
                    things.append(Thing(colour, shape, x, y, radius, angle))
                    break
    return Scene(background, pattern, tuple(things), int(random.integers(2**32)))


def facts(scene: Scene) -> frozenset[str]:
    """Return everything that captions can claim and that holds in the scene.

    Facts are canonical words: ``"star"``, ``"red"``, ``"red star"`` (at least one),
    ``"several red star"`` (two or more), ``"three star"``, ``"three red star"``,
    ``"three shape"`` (exactly), ``"yellow background"``, ``"striped"``.
    """
    found = {f"{scene.background} background", scene.pattern}
    found.add(f"{COUNTS[len(scene.things)]} shape")
    tally: dict[str, int] = {}
    for thing in scene.things:
        for name in (thing.colour, thing.shape, f"{thing.colour} {thing.shape}"):
            tally[name] = tally.get(name, 0) + 1
    for name, count in tally.items():
        found |= {name, f"{COUNTS[count]} {name}"}
        if count > 1:
            found.add(f"several {name}")
    return frozenset(found)


def draw(scene: Scene, size: int = 64) -> Image.Image:
    """Return the scene as an RGB picture of ``size`` by ``size`` pixels."""
    random = np.random.default_rng(scene.seed)
    scale = 2 * size  # drawn twice as large and reduced, which smooths the edges
    ground = _jitter(BACKGROUNDS[scene.background], random)
    image = Image.new("RGB", (scale, scale), ground)
    pencil = ImageDraw.Draw(image)
    _draw_pattern(pencil, scene.pattern, _accent(ground), scale, random)
    for thing in scene.things:
        _draw_thing(pencil, thing, _jitter(COLOURS[thing.colour], random), ground, scale)
    return image.resize((size, size), Image.Resampling.BICUBIC)


def _jitter(colour: tuple[int, int, int], random: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = np.clip(np.add(colour, random.integers(-16, 17, 3)), 0, 255).tolist()
    return red, green, blue


def _accent(ground: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the colour of the pattern's lines: the ground, darker or (if dark) lighter."""
    red, green, blue = (
        round(part * 0.62) if sum(ground) > 240 else round(part + (255 - part) * 0.36)
        for part in ground
    )
    return red, green, blue


def _draw_pattern(
    pencil: ImageDraw.ImageDraw,
    pattern: str,
    colour: tuple[int, int, int],
    scale: int,
    random: np.random.Generator,
) -> None:
    step = scale / int(random.integers(4, 8))
    offset = float(random.uniform(0, step))
    starts = (np.arange(-step, scale + step, step) - offset).tolist()
    if pattern == "striped":
        slant = float(random.choice([0.0, 1.0, -1.0])) * scale
        upright = slant != 0 or random.random() < 0.5
        for start in (np.arange(-scale, 2 * scale, step) - offset).tolist():
            ends = ((start, 0.0), (start + slant, float(scale)))
            line = ends if upright else tuple((y, x) for x, y in ends)
            pencil.line(line, fill=colour, width=round(step * 0.42))
    elif pattern == "dotted":
        radius = step * 0.27
        for x in starts:
            for y in starts:
                pencil.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    elif pattern == "checkered":
        for column, x in enumerate(starts):
            for row, y in enumerate(starts):
                if (column + row) % 2:
                    pencil.rectangle((x, y, x + step, y + step), fill=colour)


def _draw_thing(
    pencil: ImageDraw.ImageDraw,
    thing: Thing,
    colour: tuple[int, int, int],
    ground: tuple[int, int, int],
    scale: int,
) -> None:
    x, y, radius = thing.x * scale, thing.y * scale, thing.radius * scale
    if thing.shape in ("circle", "ring"):
        box = (x - radius, y - radius, x + radius, y + radius)
        if thing.shape == "circle":
            pencil.ellipse(box, fill=colour)
        else:
            pencil.ellipse(box, outline=colour, width=round(radius * 0.38))
        return
    cosine, sine = math.cos(thing.angle) * radius, math.sin(thing.angle) * radius
    corners = [
        (x + px * cosine - py * sine, y + px * sine + py * cosine)
        for px, py in _POLYGONS[thing.shape]
    ]
    pencil.polygon(corners, fill=colour)
