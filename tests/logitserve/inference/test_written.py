"""Sheets on which nothing is written though something was cut out, and the same with a digit."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from logitserve.inference import preprocessing
from logitserve.inference.image_warnings import NOTHING_WRITTEN, ImageWarning
from logitserve_training.drawings import Paper, draw
from logitserve_training.recipes import DIGIT_INPUT

SIDE = 90
Field = npt.NDArray[np.float64]
Sheet = Callable[[Field, Field, np.random.Generator], Field]
"""Columns, rows → the light that a sheet gives back, 0 to 1."""


def shadow(x: Field, y: Field, g: np.random.Generator) -> Field:
    soft = g.uniform(0.005, 0.03)
    return np.asarray(1 - 0.4 / (1 + np.exp(-(x + 0.4 * y - g.uniform(0.4, 0.8)) / soft)))


def hand(x: Field, y: Field, g: np.random.Generator) -> Field:
    return np.asarray(1 - 0.4 / (1 + np.exp((np.hypot(x, y) - g.uniform(0.25, 0.4)) / 0.03)))


def torn(x: Field, y: Field, g: np.random.Generator) -> Field:
    edge = 0.08 + 0.02 * np.cumsum(g.normal(0, 0.15, SIDE))
    return np.asarray(1 - 0.5 * (x + 0 * y < edge.clip(0, 0.14)[:, np.newaxis]))


def specks(x: Field, y: Field, g: np.random.Generator) -> Field:
    return np.asarray(1 - 0.6 * (g.random((x + y).shape) < 0.03))


def fine_line(x: Field, y: Field, g: np.random.Generator) -> Field:
    angle = g.uniform(0.15, 1.4)
    across = (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)
    return np.asarray(1 - 0.5 * (abs(across) < 0.004))


def clip(x: Field, y: Field, g: np.random.Generator) -> Field:
    """Its wire is a stroke, but comes from the border."""
    down = np.clip(y, 0, g.uniform(0.2, 0.35))
    from_wire = abs(np.hypot(x - g.uniform(0.2, 0.8), y - down) - g.uniform(0.06, 0.1))
    return np.asarray(1 - 0.6 * (from_wire < 0.012))


def lamps(x: Field, y: Field, g: np.random.Generator) -> Field:
    """Round lights, two or three of about one size."""
    light = np.ones(np.broadcast_shapes(x.shape, y.shape))
    for turn in range(g.integers(2, 4)):
        angle = 2 * turn + g.uniform(-0.3, 0.3)
        from_middle = np.hypot(x - 0.5 - 0.2 * np.cos(angle), y - 0.5 - 0.2 * np.sin(angle))
        light = np.where(from_middle < g.uniform(0.08, 0.1), 0.5, light)
    return light


def box(x: Field, y: Field, g: np.random.Generator) -> Field:
    """An empty field of a form."""
    from_middle = np.maximum(abs(x - 0.5) / g.uniform(0.25, 0.35), abs(y - 0.5) / 0.35)
    return np.asarray(1 - 0.6 * (abs(from_middle - 1) < 0.05))


def boxes(x: Field, y: Field, g: np.random.Generator) -> Field:
    """Two that are to be ticked."""
    light = np.ones(np.broadcast_shapes(x.shape, y.shape))
    for middle in (0.3, 0.7):
        from_middle = np.maximum(abs(x - middle), abs(y - g.uniform(0.4, 0.6)))
        light = np.where(abs(from_middle - 0.13) < 0.025, 0.4, light)
    return light


def gray(sheet: Sheet, seed: int, ink: Field | float = 0.0) -> npt.NDArray[np.uint8]:
    g = np.random.default_rng(seed)
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE
    light = 240 * sheet(x, y, g) * (1 - 0.8 * ink) + g.normal(0, 1.5, (SIDE, SIDE))
    return np.asarray(light.clip(0, 255), np.uint8)


def warnings(image: npt.NDArray[np.uint8]) -> list[ImageWarning]:
    found: list[ImageWarning] = []
    preprocessing.from_array(image, DIGIT_INPUT, warn=found.append)
    return found


@pytest.mark.parametrize("sheet", [shadow, hand, torn, specks, fine_line, clip, lamps, box, boxes])
def test_nothing_is_written_on_an_empty_sheet(sheet: Sheet) -> None:
    for seed in range(40):
        image = gray(sheet, seed)
        assert not NOTHING_WRITTEN.isdisjoint(warnings(image)), seed
        assert not NOTHING_WRITTEN.isdisjoint(warnings(~image)), seed


@pytest.mark.parametrize("sheet", [shadow, hand, torn, specks, fine_line])
def test_a_digit_on_it_is_written(sheet: Sheet) -> None:
    """In nine of ten: some strokes lie along an edge."""
    missed = 0
    for digit in range(10):
        paper = Paper(SIDE, SIDE, (0, 0, 0), (255, 255, 255))
        ink = np.asarray(draw(digit, seed=digit, paper=paper).convert("L")) / 255
        missed += not NOTHING_WRITTEN.isdisjoint(warnings(gray(sheet, digit, ink)))
    assert missed <= 1


def test_a_faint_fold_of_a_small_sheet_is_not_written() -> None:
    """Noise beside it is no part of it, as faint as it is."""
    g = np.random.default_rng(0)
    for side in range(40, 63):
        y, x = (np.mgrid[:side, :side] + 0.5) / side
        across = (x - 0.5) + g.uniform(0.1, 0.4) * (y - 0.5)
        light = 240 - 40 * np.exp(-((across / 0.012) ** 2)) + g.normal(0, 3, (side, side))
        assert not NOTHING_WRITTEN.isdisjoint(warnings(light.clip(0, 255).astype(np.uint8))), side


def test_specks_of_a_small_sheet_are_not_written() -> None:
    for seed in range(40):
        g = np.random.default_rng(seed)
        light = np.full((48, 48), 230.0)
        for row, column in g.integers(1, 46, (12, 2)):
            light[row : row + 2, column : column + 2] = 90
        image = (light + g.normal(0, 1, light.shape)).astype(np.uint8)
        assert not NOTHING_WRITTEN.isdisjoint(warnings(image)), seed


def test_a_digit_that_goes_over_the_border_is_written() -> None:
    """It fills the picture, so that the opposite border is near."""
    paper = Paper(SIDE, SIDE, (0, 0, 0), (255, 255, 255))
    for digit in range(10):
        image = np.asarray(draw(digit, seed=digit, paper=paper).convert("L"))
        rows = np.flatnonzero(image.max(axis=1) > 128)
        assert NOTHING_WRITTEN.isdisjoint(warnings(image[rows[0] - 4 : rows[-1] - 2])), digit


def test_thick_strokes_are_no_spots_and_no_box() -> None:
    """A 1 and a 0 of a broader pen, and a 5 in two pieces."""
    one, zero, five = (np.zeros((SIDE, SIDE), np.uint8) for _ in range(3))
    one[20:70, 40:51] = 255
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    zero[abs(np.hypot(x / 16, y / 24) - 1) < 0.2] = 255
    five[40:45, 30:60] = five[20:38, 30:35] = five[45:70, 55:60] = five[65:70, 30:60] = 255
    five[20:24, 42:62] = 255
    for image in (one, zero, five):
        assert NOTHING_WRITTEN.isdisjoint(warnings(image))
