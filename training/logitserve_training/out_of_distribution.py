"""Pictures that are not digits, to evaluate the out-of-distribution detection of a digit model.

All are drawn from a seed, except crops of the two photographs of scikit-learn
(`sklearn.datasets.load_sample_images`, CC BY). The model's own preprocessing is applied.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from sklearn.metrics import roc_auc_score

from logitserve.inference import preprocessing
from logitserve.inference.card import InputSpec
from logitserve.inference.predictor import Predictions, Predictor
from logitserve_training.drawings import MNIST_LIKE, SHEET, Stroke, arc, draw, draw_strokes
from logitserve_training.statistics.calibration import Floats

COUNT: Final = 200
"""Pictures per kind."""

Picture = npt.NDArray[np.uint8]
"""`[h, w]` or `[h, w, 3]`."""

LETTERS: Final[dict[str, list[Stroke]]] = {
    "A": [[(0.02, 1.0), (0.34, 0.0), (0.68, 1.0)], [(0.15, 0.62), (0.55, 0.62)]],
    "C": [arc((0.38, 0.5), (0.32, 0.48), (-45, -315))],
    "E": [[(0.62, 0.02), (0.1, 0.02), (0.1, 0.98), (0.64, 0.98)], [(0.1, 0.5), (0.52, 0.5)]],
    "F": [[(0.64, 0.02), (0.12, 0.02), (0.12, 1.0)], [(0.12, 0.48), (0.52, 0.48)]],
    "H": [[(0.06, 0.0), (0.06, 1.0)], [(0.64, 0.0), (0.64, 1.0)], [(0.06, 0.5), (0.64, 0.5)]],
    "K": [[(0.08, 0.0), (0.08, 1.0)], [(0.62, 0.0), (0.1, 0.55), (0.66, 1.0)]],
    "M": [[(0.0, 1.0), (0.06, 0.0), (0.35, 0.6), (0.64, 0.0), (0.7, 1.0)]],
    "N": [[(0.06, 1.0), (0.06, 0.0), (0.64, 1.0), (0.64, 0.0)]],
    "P": [[(0.1, 1.0), (0.1, 0.02), *arc((0.36, 0.27), (0.28, 0.25), (-90, 90)), (0.1, 0.52)]],
    "R": [
        [(0.1, 1.0), (0.1, 0.02), *arc((0.34, 0.27), (0.28, 0.25), (-90, 90)), (0.1, 0.52)],
        [(0.28, 0.52), (0.66, 1.0)],
    ],
    "T": [[(0.02, 0.02), (0.68, 0.02)], [(0.35, 0.02), (0.35, 1.0)]],
    "U": [[(0.06, 0.0), *arc((0.35, 0.7), (0.29, 0.28), (180, 0)), (0.64, 0.0)]],
    "V": [[(0.02, 0.0), (0.34, 1.0), (0.68, 0.0)]],
    "W": [[(0.0, 0.0), (0.16, 1.0), (0.35, 0.35), (0.54, 1.0), (0.7, 0.0)]],
    "X": [[(0.04, 0.0), (0.66, 1.0)], [(0.66, 0.0), (0.04, 1.0)]],
    "Y": [[(0.02, 0.0), (0.35, 0.5), (0.68, 0.0)], [(0.35, 0.5), (0.35, 1.0)]],
}
"""Capitals that do not resemble a digit, unlike B, D, G, I, J, L, O, Q, S and Z."""


@dataclass(frozen=True, slots=True)
class OutOfDistribution:
    """Out-of-distribution detection of a model."""

    novelties: dict[str, Floats]
    """Novelties by kind, `[n]`; those of the test part are `in_distribution`."""
    in_distribution: Floats
    auroc: dict[str, float]
    """AUROC by kind: probability that its pictures have a higher novelty than test pictures."""
    unknown: dict[str, float]
    """By kind, the share above the card's threshold."""
    unknown_in_distribution: float
    """The share of test pictures that are wrongly called unknown."""


def measure(predictor: Predictor, in_distribution: Predictions, *, count: int) -> OutOfDistribution:
    """Evaluate a model on `count` pictures of each kind.

    The model has a novelty or an energy; `in_distribution` is its prediction of the test part.
    """
    predictions = {
        kind: predictor.predict(pictures(kind, predictor.card.input, count=count)) for kind in KINDS
    }
    novelties = {kind: _novelties(said) for kind, said in predictions.items()}
    inside = _novelties(in_distribution)
    return OutOfDistribution(
        novelties=novelties,
        in_distribution=inside,
        auroc={kind: auroc(found, inside) for kind, found in novelties.items()},
        unknown={kind: _unknown(said) for kind, said in predictions.items()},
        unknown_in_distribution=_unknown(in_distribution),
    )


def pictures(kind: str, spec: InputSpec, *, count: int) -> preprocessing.Prepared:
    """Return pictures of one of `KINDS`, prepared for a model."""
    generator = np.random.default_rng([list(KINDS).index(kind), 20_240_601])
    make = KINDS[kind]
    return preprocessing.prepare([make(generator) for _ in range(count)], spec)


def auroc(positive: Floats, negative: Floats) -> float:
    """Return the probability that a positive is larger, ties counting half; both are 1-D."""
    is_positive = np.repeat([1, 0], [len(positive), len(negative)])
    return float(roc_auc_score(is_positive, np.concatenate([positive, negative])))


def _novelties(said: Predictions) -> Floats:
    assert said.novelty is not None  # noqa: S101 - ensured by the caller
    return said.novelty.astype(np.float64)


def _unknown(said: Predictions) -> float:
    assert said.known is not None  # noqa: S101 - ensured by the caller
    return float(np.mean(~said.known))


def _letter(generator: np.random.Generator) -> Picture:
    strokes = LETTERS[generator.choice(list(LETTERS))]
    paper = SHEET if generator.random() < 0.5 else MNIST_LIKE
    return np.asarray(draw_strokes(strokes, generator, paper=paper))


def _type(generator: np.random.Generator) -> Picture:
    """Draw the same letters in Pillow's own font."""
    sheet = Image.new("L", (80, 80), 245)
    letter = generator.choice(list(LETTERS))
    font = ImageFont.load_default(float(generator.integers(34, 60)))
    heavy = int(generator.integers(0, 3))
    ImageDraw.Draw(sheet).text((40, 40), letter, 30, font, anchor="mm", stroke_width=heavy)
    return np.asarray(sheet)


def _digit(generator: np.random.Generator, digits: str = "0123456789") -> Picture:
    digit, seed = generator.choice(list(digits)), int(generator.integers(1_000_000))
    return np.asarray(draw(int(digit), seed=seed).convert("L"))


def _two(generator: np.random.Generator) -> Picture:
    """Draw two digits side by side."""
    overlap = int(generator.integers(4, 9))
    return np.hstack([_digit(generator)[:, : 28 - overlap], _digit(generator)[:, overlap:]])


def _half(generator: np.random.Generator) -> Picture:
    """Draw the upper, lower, left or right half of a digit (not 0, 1, 4, 6, 7, 9: ambiguous)."""
    turns = int(generator.integers(4))
    half = np.rot90(_digit(generator, "2358"), turns).copy()
    half[14:] = 0
    return np.ascontiguousarray(np.rot90(half, -turns))


def _checkerboard(generator: np.random.Generator) -> Picture:
    side, cell = int(generator.integers(28, 90)), int(generator.integers(2, 9))
    rows, columns = np.mgrid[:side, :side] // cell
    dark, light = generator.uniform((0, 150), (100, 255))
    squares: Picture = np.where((rows + columns) % 2, light, dark).astype(np.uint8)
    return squares


def _noise(generator: np.random.Generator) -> Picture:
    """Draw independent noise per pixel: uniform, or sparse dots."""
    side = int(generator.integers(28, 90))
    uniform = generator.integers(0, 256, (side, side))
    if generator.random() < 0.5:
        return uniform.astype(np.uint8)
    return np.where(uniform < generator.uniform(5, 60), 255, 0).astype(np.uint8)


def _blank(generator: np.random.Generator) -> Picture:
    """Draw an empty sheet: evenly lit, from one side, folded, in half shadow, on a table."""
    side = int(generator.integers(28, 300))
    y, x = np.mgrid[:side, :side] / side - 0.5
    angle, offset = generator.uniform((0, -0.3), (2 * np.pi, 0.3))
    across = x * np.cos(angle) + y * np.sin(angle) - offset
    depth = generator.uniform(20, 90)
    effect = (
        0 * across,
        depth * across,
        depth / 4 * (across > 0) + depth / 3 * np.exp(-((across / 0.01) ** 2)),
        depth / (1 + np.exp(-across / generator.uniform(0.005, 0.08))),
        2 * depth * (np.maximum(np.abs(x), np.abs(y)) > generator.uniform(0.3, 0.48)),
    )[generator.integers(5)]
    grain = generator.choice([0, 2, 5]) * generator.normal(size=(side, side))
    sheet: Picture = np.clip(generator.uniform(170, 250) - effect + grain, 0, 255).astype(np.uint8)
    return 255 - sheet if generator.random() < 0.2 else sheet


def _texture(generator: np.random.Generator) -> Picture:
    """Draw waves, squares or clouds."""
    side = int(generator.integers(28, 90))
    y, x = np.mgrid[:side, :side] / side
    frequency, angle, phase = generator.uniform((2, 0, 0), (12, np.pi, 2 * np.pi))
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    waves = np.sin(2 * np.pi * frequency * along + phase)
    kind = generator.integers(3)
    if kind == 1:
        waves = np.sign(waves * np.sin(2 * np.pi * frequency * across))
    if kind == 2:
        coarse = generator.uniform(-1, 1, (6, 6)).astype(np.float32)
        clouds = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        waves = np.asarray(clouds)
    texture: Picture = np.clip(127.5 + 127.5 * waves, 0, 255).astype(np.uint8)
    return texture


def _photograph(generator: np.random.Generator) -> Picture:
    """Crop a square of one of two photographs."""
    photograph = _photographs()[generator.integers(2)]
    side = int(generator.integers(48, 300))
    height, width = photograph.shape[:2]
    top, left = generator.integers(height - side), generator.integers(width - side)
    return np.ascontiguousarray(photograph[top : top + side, left : left + side])


@cache
def _photographs() -> list[Picture]:
    from sklearn.datasets import load_sample_images  # takes a second to import

    photographs: list[Picture] = load_sample_images().images
    return photographs


KINDS: Final[dict[str, Callable[[np.random.Generator], Picture]]] = {
    "letters": _letter,
    "noise": _noise,
    "blank": _blank,
    "textures": _texture,
    "photographs": _photograph,
    "printed letters": _type,
    "two digits": _two,
    "half a digit": _half,
    "checkerboards": _checkerboard,
}
