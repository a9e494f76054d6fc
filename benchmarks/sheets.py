"""Digits on disturbed sheets, right and known, and empty ones: `python -m benchmarks.sheets`.

Every kind of sheet is made twice, with a digit of MNIST's test part on it and without, in sizes of
64 to 1,000 pixels, dark on light and light on dark. The kinds that are `HELD_OUT` were not looked
at while the cut-out was made.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_digits

from benchmarks.servers import ROOT
from logitserve.inference import preprocessing
from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import ModelRepository
from logitserve_training import drawings
from logitserve_training.datasets import mnist
from logitserve_training.progress import Reporter

Field = npt.NDArray[np.float64]
"""`[side, side]`: of light, 0 to 1; of ink, 0 to 1."""
Kind = Callable[[Field, Field, int, np.random.Generator], Field]
"""Coordinates from 0 to 1 across and down, and the side → the light that the sheet gives back."""
MODELS: Final = ("digits", "digits-mlp", "softmax-regression", "zero")


def _along(x: Field, y: Field, g: np.random.Generator) -> Field:
    """Distance from a line through the middle part, at any angle."""
    angle = g.uniform(0, np.pi)
    middle = g.uniform(0.3, 0.7, 2)
    return np.asarray((x - middle[0]) * np.cos(angle) + (y - middle[1]) * np.sin(angle))


def _noise(sigma: float, side: int, g: np.random.Generator, grain: float = 0) -> Field:
    noise = g.normal(0, 1, (side, side))
    if grain:
        noise = ndimage.gaussian_filter(noise, grain)
        noise /= noise.std()
    return sigma * noise


def _marks(where: Any, depth: float) -> Field:
    """Full light, less by the depth where the condition holds."""
    return 1 - depth * np.asarray(where, np.float64)


def _blot(x: Field, y: Field, radius: float, g: np.random.Generator) -> Field:
    """Where a round thing near the border lies."""
    corner = g.choice([0.08, 0.92]) + g.uniform(-0.04, 0.04)
    at = (corner, g.uniform(0.05, 0.95))[:: g.choice([-1, 1])]
    return np.asarray(np.hypot(x - at[0], y - at[1]) < radius)


def _periodic(x: Field, step: float, width: float, g: np.random.Generator) -> Any:
    return (x + g.uniform(0, step)) % step < width


def _specks(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    return _marks(g.random(x.shape) < g.uniform(0.002, 0.03), g.uniform(0.3, 0.9))


def _line(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    return _marks(np.abs(_along(x, y, g)) < g.uniform(0.004, 0.012), g.uniform(0.2, 0.8))


def _ruled(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    return _marks(
        _periodic(y, g.uniform(0.08, 0.2), max(1.01 / side, 0.006), g), g.uniform(0.15, 0.45)
    )


def _squared(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    step, width, depth = g.uniform(0.08, 0.2), max(1.01 / side, 0.006), g.uniform(0.1, 0.35)
    return _marks(_periodic(x, step, width, g) | _periodic(y, step, width, g), depth)


def _shadow(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    soft = g.uniform(0.005, 0.08)
    return 1 - g.uniform(0.15, 0.5) / (1 + np.exp(-_along(x, y, g) / soft))


def _frame(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    inset, width = g.uniform(0, 0.06), g.uniform(0.008, 0.03)
    edge = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    return _marks((edge >= inset) & (edge < inset + width), g.uniform(0.3, 0.9))


def _staple(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    left, top = g.uniform(0.03, 0.1, 2)
    return _marks(
        (abs(x - left - 0.03) < 0.03) & (abs(y - top) < max(0.6 / side, 0.005)), g.uniform(0.4, 0.9)
    )


def _table(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    left, top, right, bottom = g.uniform(0.03, 0.15, 4)
    on_sheet = (x > left) & (x < 1 - right) & (y > top) & (y < 1 - bottom)
    return _marks(~on_sheet, g.uniform(0.3, 0.8))


def _fold(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    return 1 - g.uniform(0.05, 0.25) * np.exp(-((_along(x, y, g) / g.uniform(0.004, 0.02)) ** 2))


def _vignette(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    return 1 - g.uniform(0.3, 1.0) * ((x - 0.5) ** 2 + (y - 0.5) ** 2)


def _half_shadow(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    depth = g.uniform(0.2, 0.5)
    one, other = (1 / (1 + np.exp(-_along(x, y, g) / g.uniform(0.02, 0.1))) for _ in range(2))
    return 1 - depth * one * other


def _envelope(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    slope, width = g.uniform(0.4, 0.8), g.uniform(0.006, 0.02)
    return _marks(abs(y - slope * np.minimum(x, 1 - x) * 1.2) < width, g.uniform(0.1, 0.3))


def _crumpled(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    folds = [g.uniform(-0.12, 0.12) * np.tanh(_along(x, y, g) / 0.15) for _ in range(5)]
    return np.asarray(0.9 + np.sum(folds, axis=0))


def _holes(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    at = g.uniform(0.04, 0.09)
    holes = [np.hypot(x - at, y - row) < 0.025 for row in (0.25, 0.75)]
    return _marks(np.any(holes, axis=0), g.uniform(0.3, 0.9))


def _dotted(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    step, width = g.uniform(0.06, 0.12), max(1.01 / side, 0.01)
    return _marks(_periodic(x, step, width, g) & _periodic(y, step, width, g), g.uniform(0.2, 0.5))


def _blinds(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    wave = np.sin(_along(x, y, g) * g.uniform(20, 60))
    return 1 - g.uniform(0.1, 0.35) / (1 + np.exp(-wave / 0.15))


def _window(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    one, other = _along(x, y, g), _along(x, y, g)
    return 1 - g.uniform(0.15, 0.4) * np.asarray(
        np.minimum(abs(one), abs(other)) > g.uniform(0.03, 0.08), float
    )


def _torn(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    edge = 0.08 + 0.02 * np.cumsum(g.normal(0, 0.15, side))
    return _marks(x < np.clip(edge, 0, 0.14)[:, np.newaxis], g.uniform(0.2, 0.7))


def _hand(x: Field, y: Field, side: int, g: np.random.Generator) -> Field:
    distance = np.hypot(x - g.choice([0.0, 1.0]), y - g.choice([0.0, 1.0]))
    return 1 - g.uniform(0.2, 0.5) / (1 + np.exp((distance - g.uniform(0.3, 0.6)) / 0.03))


TUNED: Final[dict[str, Kind]] = {
    "clean": lambda x, y, side, g: np.ones_like(x),
    "noise": lambda x, y, side, g: 0.9 + _noise(g.uniform(0.02, 0.12), side, g),
    "specks": _specks,
    "line": _line,
    "ruled": _ruled,
    "squared": _squared,
    "shadow": _shadow,
    "lit from a side": lambda x, y, side, g: 0.8 + g.uniform(0.1, 0.5) * _along(x, y, g),
    "frame": _frame,
    "staple": _staple,
    "second thing": lambda x, y, side, g: _marks(_blot(x, y, g.uniform(0.01, 0.03), g), 0.8),
    "table": _table,
    "fold": _fold,
    "half shadow": _half_shadow,
    "window": _window,
}
HELD_OUT: Final[dict[str, Kind]] = {
    "torn edge": _torn,
    "shadow of a hand": _hand,
    "vignette": _vignette,
    "envelope": _envelope,
    "gutter": lambda x, y, side, g: 1 - 0.7 * np.exp(-x / g.uniform(0.02, 0.1)),
    "crumpled": _crumpled,
    "holes": _holes,
    "dotted": _dotted,
    "blinds": _blinds,
    "coarse grain": lambda x, y, side, g: 0.85 + _noise(g.uniform(0.01, 0.05), side, g, side / 100),
}


def sheet(kind: Kind, digit: Field | None, g: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A sheet of that kind, uint8 `[side, side]`, with a digit `[28, 28]` or none."""
    side = int(np.exp(g.uniform(np.log(64), np.log(1000))))
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    light = kind(x, y, side, g)
    size = int(side * g.uniform(0.4, 0.9))
    corner = [int(g.uniform(0.3, 0.7) * (side - size)) for _ in range(2)]
    depth = g.uniform(0.6, 0.95)
    if digit is not None:
        image = Image.fromarray((digit * 255).astype(np.uint8))
        ink = np.zeros((side, side))
        ink[corner[0] :, corner[1] :][:size, :size] = np.asarray(
            image.resize((size, size), Image.Resampling.BICUBIC), np.float64
        )
        light = light * (1 - depth * ink / 255)
    gray = 240 * light + g.normal(0, g.uniform(0, 4), light.shape)
    gray = gray if g.random() < 0.5 else 250 - gray
    return gray.clip(0, 255).astype(np.uint8)


def load(model: str) -> Predictor:
    """A shipped model."""
    return Predictor.load(ModelRepository(ROOT / "models").model_file(model))


def measure(
    name: str,
    digits: npt.NDArray[np.uint8],
    classes: npt.NDArray[np.int64],
    models: list[Predictor],
) -> list[Any]:
    """A row of the table.

    Returns:
        the share of the digits `[n, 28, 28]` that the first model has right on sheets of that kind,
        and the share it knows; then for each model how many of n empty sheets it knows.
    """
    kind = (TUNED | HELD_OUT)[name]
    g = np.random.default_rng([7, *name.encode()])
    spec = models[0].card.input
    with_digit = preprocessing.prepare([sheet(kind, digit / 255, g) for digit in digits], spec)
    empty = preprocessing.prepare([sheet(kind, None, g) for _ in digits], spec)
    found = models[0].predict(with_digit)
    known = [each for each in (model.predict(empty).known for model in models) if each is not None]
    assert found.known is not None
    return [(found.argmax == classes).mean(), found.known.mean(), *[each.sum() for each in known]]


def others() -> list[list[Any]]:
    """scikit-learn's digits, and canvases that were drawn on: their shares right and known."""
    predictor = load("digits")
    small = load_digits()
    canvas = drawings.Paper(280, 280, (0, 0, 0), (255, 255, 255))
    sets = {
        "scikit-learn, 8×8": (np.rint(small.images * (255 / 16)).astype(np.uint8), small.target),
        "drawn on a canvas": (
            [
                np.asarray(drawings.draw(n % 10, seed=n, paper=canvas).convert("L"))
                for n in range(300)
            ],
            np.arange(300) % 10,
        ),
    }
    rows = []
    for name, (images, labels) in sets.items():
        found = predictor.predict(preprocessing.prepare(list(images), predictor.card.input))
        assert found.known is not None
        rows.append([name, float((found.argmax == labels).mean()), float(found.known.mean())])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of MNIST [downloaded]")
    parser.add_argument("--count", type=int, default=150, help="sheets of each kind, of each sort")
    asked = parser.parse_args()
    print(f"| kind | right | known | empty, known of {asked.count}: {' | '.join(MODELS)} |")
    print("|---|---:|---:" + "|---:" * len(MODELS) + "|")
    models = [load(model) for model in MODELS]
    test = mnist.load(asked.data, Reporter()).test
    chosen = np.random.default_rng(0).choice(len(test), asked.count, replace=False)
    digits, classes = test.images[chosen, :, :, 0], test.classes[chosen]
    for title, kinds in (("tuned on", TUNED), ("held out", HELD_OUT)):
        numbers = [measure(name, digits, classes, models) for name in kinds]
        summary = [*np.mean(numbers, axis=0)[:2], *np.sum(numbers, axis=0)[2:]]
        for name, row in zip([*kinds, f"**{title}**"], [*numbers, summary], strict=True):
            print(f"| {name} | {row[0]:.3f} | {row[1]:.3f} |", *[f"{n:g} |" for n in row[2:]])
    for row in others():
        print(f"| {row[0]} | {row[1]:.4f} | {row[2]:.4f} |")


if __name__ == "__main__":
    main()
