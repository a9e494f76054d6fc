"""Kinds of sheet that nothing in the cut-out was chosen on: looked at only to be counted."""

import io
from typing import Final

import numpy as np
from PIL import Image
from scipy import ndimage

from benchmarks.sheet_kinds import Field, Kind, along, marks, noise, periodic


def _fibers(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """Recycled paper: short faint hairs, at any angle."""
    light = np.full_like(x, 0.92)
    for _ in range(int(g.integers(20, 80))):
        at, angle, length = g.random(2), g.uniform(0, np.pi), g.uniform(0.01, 0.05)
        across = (x - at[0]) * np.cos(angle) + (y - at[1]) * np.sin(angle)
        lengthwise = (y - at[1]) * np.cos(angle) - (x - at[0]) * np.sin(angle)
        on = (abs(across) < max(0.5 / side, 0.001)) & (abs(lengthwise) < length)
        light -= g.uniform(0.05, 0.3) * on
    return light


def _weave(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """Fabric: threads over and under each other."""
    frequency = 2 * np.pi * g.uniform(15, 45)
    threads = np.sin(frequency * x) * np.sin(frequency * y)
    return 0.8 + g.uniform(0.05, 0.15) * threads + noise(0.02, side, g, 1)


def _scanner_edge(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """The lid beside the sheet: a dark bar along one side, and light that leaks in."""
    width = g.uniform(0.02, 0.12)
    slanted = x + g.uniform(-0.03, 0.03) * y
    return marks(slanted < width, g.uniform(0.4, 0.9)) - 0.15 * np.exp(-slanted / 0.08)


def _glare(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """The flash on glossy paper."""
    at, spread = g.uniform(0.2, 0.8, 2), g.uniform(0.08, 0.25)
    light: Field = 0.6 + 0.4 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * spread**2))
    return light


def _moire(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """A screen that was photographed."""
    frequency = 2 * np.pi * g.uniform(30, 60)
    one = np.sin(frequency * along(x, y, g))
    return np.asarray(0.8 + g.uniform(0.04, 0.12) * (one + np.sin(1.05 * frequency * x)))


def _blocks(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """Uneven light, of a JPEG of low quality."""
    light = 0.7 + g.uniform(0.1, 0.4) * along(x, y, g) + noise(0.03, side, g)
    buffer = io.BytesIO()
    image = Image.fromarray((light.clip(0, 1) * 255).astype(np.uint8))
    image.save(buffer, "JPEG", quality=int(g.integers(3, 20)))
    return np.asarray(Image.open(buffer), np.float64) / 255


def _wood(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """A table without a sheet."""
    bent = x + 0.05 * ndimage.gaussian_filter(noise(1, side, g), side / 12) * 8
    rings = np.sin(2 * np.pi * g.uniform(5, 15) * bent)
    return np.asarray(0.55 + g.uniform(0.05, 0.15) * rings + noise(0.02, side, g))


def _leaves(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """Light through a tree: soft spots, large and small."""
    spots = noise(1, side, g, side * g.uniform(0.03, 0.1))
    return 1 - g.uniform(0.15, 0.45) / (1 + np.exp(-spots / g.uniform(0.1, 0.5)))


def _second_sheet(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """One sheet over another, with the shadow of its edge."""
    distance = along(x, y, g)
    edge = g.uniform(0.03, 0.1) * (distance > 0)
    return 0.95 - edge - g.uniform(0.1, 0.3) * np.exp(-distance.clip(0) / 0.02) * (distance > 0)


def _dog_ear(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """A corner that was folded over, and the table behind it."""
    size = g.uniform(0.1, 0.3)
    behind, folded = x + y < size, (x + y >= size) & (x < size) & (y < size)
    return np.asarray(1 - g.uniform(0.3, 0.8) * behind - g.uniform(0.05, 0.2) * folded)


def _flicker(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """Bands of a lamp's flicker."""
    return 0.8 + g.uniform(0.05, 0.2) * np.sin(2 * np.pi * (g.uniform(1, 6) * y + g.random()))


def _wiped(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """A blackboard after the sponge: broad, faint swaths."""
    board = np.full_like(x, 0.9)
    for _ in range(int(g.integers(2, 6))):
        board -= g.uniform(0.03, 0.15) / (1 + np.exp((abs(along(x, y, g)) - 0.08) / 0.02))
    return board + noise(0.02, side, g, 1)


def _streaks(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """The dirt on a scanner's glass, drawn out along the sheet."""
    rows = ndimage.gaussian_filter(g.normal(0, 1, side), 1)
    return 0.9 - g.uniform(0.05, 0.2) * np.repeat(rows[np.newaxis].clip(0), side, axis=0)


def _room_corner(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """Two walls and a ceiling, each in its own light."""
    at = g.uniform(0.3, 0.7, 2)
    ceiling = y < at[1] + g.uniform(-0.4, 0.4) * abs(x - at[0])
    return np.where(ceiling, 1.0, np.where(x < at[0], *g.uniform(0.5, 0.95, 2)))


def _tiles(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """Few large squares with broad gaps."""
    step, width = g.uniform(0.25, 0.5), g.uniform(0.02, 0.04)
    return marks(periodic(x, step, width, g) | periodic(y, step, width, g), g.uniform(0.1, 0.5))


UNSEEN: Final[dict[str, Kind]] = {
    "fibers": _fibers,
    "weave": _weave,
    "scanner's edge": _scanner_edge,
    "glare": _glare,
    "moiré": _moire,
    "JPEG blocks": _blocks,
    "wood": _wood,
    "leaves": _leaves,
    "second sheet": _second_sheet,
    "dog-ear": _dog_ear,
    "flicker": _flicker,
    "wiped board": _wiped,
    "streaks": _streaks,
    "corner of a room": _room_corner,
    "tiles": _tiles,
}
