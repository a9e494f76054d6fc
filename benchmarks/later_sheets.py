"""Kinds of sheet that were written after the preprocessing and the models were final."""

from typing import Final

import numpy as np
from scipy import ndimage

from benchmarks.sheet_kinds import Field, Kind, along, marks, noise, periodic


def _water_stain(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """A blot that is darker along its rim."""
    middle, radius = g.uniform(0.2, 0.8, 2), g.uniform(0.1, 0.35)
    angle = np.arctan2(y - middle[1], x - middle[0])
    waves = sum(g.uniform(0, 0.1) * np.sin(n * angle + g.uniform(0, 6)) for n in (2, 3, 5))
    from_rim = np.hypot(x - middle[0], y - middle[1]) - radius * (1 + waves)
    rim = np.exp(-((from_rim / g.uniform(0.005, 0.02)) ** 2))
    return np.asarray(1 - g.uniform(0.02, 0.1) * (from_rim < 0) - g.uniform(0.05, 0.2) * rim)


def _thumb(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """It holds the sheet from a side."""
    reach, at, width = g.uniform(0.15, 0.4), g.uniform(0.2, 0.8), g.uniform(0.06, 0.12)
    from_tip = np.hypot(np.maximum(x - reach + width, 0), y - at) - width
    return np.asarray(1 - g.uniform(0.2, 0.6) / (1 + np.exp(from_tip / g.uniform(0.003, 0.02))))


def _cardboard(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    ridges = np.sin(along(x, y, g) * g.uniform(60, 250))
    return np.asarray(0.8 + g.uniform(0.02, 0.08) * ridges + noise(0.015, side, g, 1))


def _paper_clip(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """Two long loops, one within the other, at the upper border."""
    middle, length, width = g.uniform(0.2, 0.8), g.uniform(0.15, 0.3), g.uniform(0.02, 0.04)
    wire = np.zeros_like(x)
    for share in (1, 0.6):
        down = np.clip(y, 0, length * share)
        from_wire = abs(np.hypot(x - middle, y - down) - width * share)
        wire = np.maximum(wire, from_wire < max(0.8 / side, 0.004))
    return marks(wire, g.uniform(0.3, 0.8))


def _crumbs(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """Of an eraser: short, curved and a little darker than the sheet."""
    light = np.ones_like(x)
    for _ in range(g.integers(3, 15)):
        at, radius, turn = g.uniform(0.05, 0.95, 2), g.uniform(0.01, 0.04), g.uniform(-np.pi, np.pi)
        bent = abs(np.hypot(x - at[0], y - at[1]) - radius) < g.uniform(0.003, 0.008)
        part = np.cos(np.arctan2(y - at[1], x - at[0]) - turn) > g.uniform(-0.2, 0.6)
        light = np.minimum(light, marks(bent & part, g.uniform(0.15, 0.6)))
    return light


def _folded_twice(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """Two folds that cross, each between parts that lie at other angles to the light."""
    light = np.ones_like(x)
    for across in (x - g.uniform(0.4, 0.6), y - g.uniform(0.4, 0.6)):
        light = light - g.uniform(0.02, 0.08) * np.sign(across)
        light = light - g.uniform(0.05, 0.2) * np.exp(-((across / g.uniform(0.004, 0.015)) ** 2))
    return light - 0.1


def _sticky_note(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """A square of another tone, which throws a shadow on one side."""
    left, top, size = g.uniform(0.05, 0.45), g.uniform(0.05, 0.45), g.uniform(0.3, 0.5)
    inside = (abs(x - left - size / 2) < size / 2) & (abs(y - top - size / 2) < size / 2)
    below = np.exp(-np.clip(y - top - size, 0, None) / g.uniform(0.005, 0.03))
    shade = 0.3 * below * (y > top + size) * (abs(x - left - size / 2) < size / 2)
    return np.asarray(1 - g.uniform(0.05, 0.3) * inside - shade)


def _binding(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """A row of holes with wire in them, along the left side."""
    step, at = g.uniform(0.05, 0.1), g.uniform(0.04, 0.08)
    row = (y / step) % 1 - 0.5
    holes = np.hypot(x - at, row * step) < 0.3 * step
    wire = (x < at) & (abs(row) < 0.15)
    return marks(holes | wire, g.uniform(0.4, 0.9))


def _concrete(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """Grains of every size, and pores."""
    grains = sum(
        noise(g.uniform(0.01, 0.04), side, g, side * share) for share in (0.005, 0.02, 0.1)
    )
    pores = ndimage.gaussian_filter((g.random(x.shape) < 30 / side**2) * 1.0, side / 150)
    return np.asarray(0.75 + grains - 0.4 * pores / max(pores.max(), 1e-9))


def _bubbles(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    """Of a wrapping: a light above and a shade below in each."""
    step = g.uniform(0.08, 0.25)
    shift = 0.5 * periodic(y, 2 * step, step, g)
    across, down = (x / step + shift) % 1 - 0.5, (y / step) % 1 - 0.5
    bump = np.exp(-(((np.hypot(across, down) - 0.38) / 0.06) ** 2))
    return np.asarray(0.85 - g.uniform(0.05, 0.25) * bump * np.sign(down))


LATER: Final[dict[str, Kind]] = {
    "water stain": _water_stain,
    "thumb": _thumb,
    "cardboard": _cardboard,
    "paper clip": _paper_clip,
    "crumbs": _crumbs,
    "folded twice": _folded_twice,
    "sticky note": _sticky_note,
    "spiral binding": _binding,
    "concrete": _concrete,
    "bubbles": _bubbles,
}
