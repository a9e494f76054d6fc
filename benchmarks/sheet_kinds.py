"""Kinds of disturbed sheet of paper, which the cut-out of handwriting was made on."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Field = npt.NDArray[np.float64]
"""`[side, side]`: of light, 0 to 1; of ink, 0 to 1."""
Kind = Callable[[Field, Field, int, np.random.Generator], Field]
"""Coordinates from 0 to 1 across and down, and the side → the light that the sheet gives back."""


def along(x: Field, y: Field, g: np.random.Generator) -> Field:
    """Distance from a line through the middle part, at any angle."""
    angle = g.uniform(0, np.pi)
    middle = g.uniform(0.3, 0.7, 2)
    return np.asarray((x - middle[0]) * np.cos(angle) + (y - middle[1]) * np.sin(angle))


def noise(sigma: float, side: int, g: np.random.Generator, grain: float = 0) -> Field:
    noise = g.normal(0, 1, (side, side))
    if grain:
        noise = ndimage.gaussian_filter(noise, grain)
        noise /= noise.std()
    return sigma * noise


def marks(where: Any, depth: float) -> Field:
    """Full light, less by the depth where the condition holds."""
    return 1 - depth * np.asarray(where, np.float64)


def _blot(x: Field, y: Field, radius: float, g: np.random.Generator) -> Field:
    """Where a round thing near the border lies."""
    corner = g.choice([0.08, 0.92]) + g.uniform(-0.04, 0.04)
    at = (corner, g.uniform(0.05, 0.95))[:: g.choice([-1, 1])]
    return np.asarray(np.hypot(x - at[0], y - at[1]) < radius)


def periodic(x: Field, step: float, width: float, g: np.random.Generator) -> Any:
    return (x + g.uniform(0, step)) % step < width


def _specks(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    return marks(g.random(x.shape) < g.uniform(0.002, 0.03), g.uniform(0.3, 0.9))


def _line(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    return marks(np.abs(along(x, y, g)) < g.uniform(0.004, 0.012), g.uniform(0.2, 0.8))


def _ruled(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    return marks(
        periodic(y, g.uniform(0.08, 0.2), max(1.01 / side, 0.006), g), g.uniform(0.15, 0.45)
    )


def _squared(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    step, width, depth = g.uniform(0.08, 0.2), max(1.01 / side, 0.006), g.uniform(0.1, 0.35)
    return marks(periodic(x, step, width, g) | periodic(y, step, width, g), depth)


def _shadow(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    soft = g.uniform(0.005, 0.08)
    return 1 - g.uniform(0.15, 0.5) / (1 + np.exp(-along(x, y, g) / soft))


def _frame(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    inset, width = g.uniform(0, 0.06), g.uniform(0.008, 0.03)
    edge = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    return marks((edge >= inset) & (edge < inset + width), g.uniform(0.3, 0.9))


def _staple(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    left, top = g.uniform(0.03, 0.1, 2)
    return marks(
        (abs(x - left - 0.03) < 0.03) & (abs(y - top) < max(0.6 / side, 0.005)), g.uniform(0.4, 0.9)
    )


def _table(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    left, top, right, bottom = g.uniform(0.03, 0.15, 4)
    on_sheet = (x > left) & (x < 1 - right) & (y > top) & (y < 1 - bottom)
    return marks(~on_sheet, g.uniform(0.3, 0.8))


def _fold(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    return 1 - g.uniform(0.05, 0.25) * np.exp(-((along(x, y, g) / g.uniform(0.004, 0.02)) ** 2))


def _vignette(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    return 1 - g.uniform(0.3, 1.0) * ((x - 0.5) ** 2 + (y - 0.5) ** 2)


def _half_shadow(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    depth = g.uniform(0.2, 0.5)
    one, other = (1 / (1 + np.exp(-along(x, y, g) / g.uniform(0.02, 0.1))) for _ in range(2))
    return 1 - depth * one * other


def _envelope(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    slope, width = g.uniform(0.4, 0.8), g.uniform(0.006, 0.02)
    return marks(abs(y - slope * np.minimum(x, 1 - x) * 1.2) < width, g.uniform(0.1, 0.3))


def _crumpled(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    folds = [g.uniform(-0.12, 0.12) * np.tanh(along(x, y, g) / 0.15) for _ in range(5)]
    return np.asarray(0.9 + np.sum(folds, axis=0))


def _holes(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    at = g.uniform(0.04, 0.09)
    holes = [np.hypot(x - at, y - row) < 0.025 for row in (0.25, 0.75)]
    return marks(np.any(holes, axis=0), g.uniform(0.3, 0.9))


def _dotted(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    step, width = g.uniform(0.06, 0.12), max(1.01 / side, 0.01)
    return marks(periodic(x, step, width, g) & periodic(y, step, width, g), g.uniform(0.2, 0.5))


def _blinds(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    wave = np.sin(along(x, y, g) * g.uniform(20, 60))
    return 1 - g.uniform(0.1, 0.35) / (1 + np.exp(-wave / 0.15))


def _window(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    one, other = along(x, y, g), along(x, y, g)
    return 1 - g.uniform(0.15, 0.4) * np.asarray(
        np.minimum(abs(one), abs(other)) > g.uniform(0.03, 0.08), float
    )


def _torn(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    edge = 0.08 + 0.02 * np.cumsum(g.normal(0, 0.15, side))
    return marks(x < np.clip(edge, 0, 0.14)[:, np.newaxis], g.uniform(0.2, 0.7))


def _hand(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    distance = np.hypot(x - g.choice([0.0, 1.0]), y - g.choice([0.0, 1.0]))
    strength, reach = g.uniform(0.2, 0.5), g.uniform(0.3, 0.6)
    shade: Field = 1 - strength / (1 + np.exp((distance - reach) / 0.03))
    return shade


TUNED: Final[dict[str, Kind]] = {
    "clean": lambda x, y, side, g: np.ones_like(x),
    "noise": lambda x, y, side, g: 0.9 + noise(g.uniform(0.02, 0.12), side, g),
    "specks": _specks,
    "line": _line,
    "ruled": _ruled,
    "squared": _squared,
    "shadow": _shadow,
    "lit from a side": lambda x, y, side, g: 0.8 + g.uniform(0.1, 0.5) * along(x, y, g),
    "frame": _frame,
    "staple": _staple,
    "second thing": lambda x, y, side, g: marks(_blot(x, y, g.uniform(0.01, 0.03), g), 0.8),
    "table": _table,
    "fold": _fold,
    "half shadow": _half_shadow,
    "window": _window,
    "torn edge": _torn,
    "shadow of a hand": _hand,
    "vignette": _vignette,
    "envelope": _envelope,
    "gutter": lambda x, y, side, g: 1 - 0.7 * np.exp(-x / g.uniform(0.02, 0.1)),
    "crumpled": _crumpled,
    "holes": _holes,
    "dotted": _dotted,
    "blinds": _blinds,
    "coarse grain": lambda x, y, side, g: 0.85 + noise(g.uniform(0.01, 0.05), side, g, side / 100),
}
