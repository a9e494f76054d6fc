"""Draw synthetic digits with seeded strokes, so that no data set is needed.

They are used as goldens in model cards, in tests and in the documentation.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Point = tuple[float, float]
"""x points right and y down, in units of the digit's height; a digit lies in 0…0.7 × 0…1."""
Stroke = list[Point]
Points = npt.NDArray[np.float64]
"""`[n, 2]`, x and y."""


def arc(center: Point, radii: Point, degrees: tuple[float, float]) -> Stroke:
    """Return an arc of an ellipse; 0 degrees points right, angles are clockwise."""
    angles = np.radians(np.linspace(*degrees, 24))
    return [
        (center[0] + radii[0] * math.cos(angle), center[1] + radii[1] * math.sin(angle))
        for angle in angles
    ]


_STROKES: Final[tuple[list[Stroke], ...]] = (
    [arc((0.35, 0.5), (0.29, 0.48), (-70, 295))],
    [[(0.2, 0.2), (0.38, 0.02), (0.36, 0.98)]],
    [[*arc((0.33, 0.28), (0.27, 0.26), (190, 385)), (0.05, 0.96), (0.66, 0.93)]],
    [
        [
            *arc((0.31, 0.26), (0.26, 0.24), (200, 440)),
            *arc((0.31, 0.73), (0.31, 0.25), (-85, 155)),
        ]
    ],
    [[(0.4, 0.02), (0.04, 0.62), (0.68, 0.6)], [(0.5, 0.36), (0.47, 0.99)]],
    [[(0.62, 0.03), (0.17, 0.05), (0.13, 0.44), *arc((0.31, 0.69), (0.3, 0.29), (-110, 150))]],
    [[(0.52, 0.02), (0.2, 0.34), *arc((0.34, 0.71), (0.26, 0.27), (190, 545))]],
    [[(0.04, 0.06), (0.66, 0.04), (0.42, 0.5), (0.28, 0.99)]],
    [
        [
            *arc((0.34, 0.25), (0.23, 0.23), (80, -265)),
            *arc((0.34, 0.73), (0.28, 0.25), (-90, 262)),
        ]
    ],
    [[*arc((0.33, 0.29), (0.26, 0.27), (10, -340)), (0.58, 0.4), (0.52, 0.99)]],
)


@dataclass(frozen=True, slots=True)
class Paper:
    """Size and colors of a drawing."""

    height: int
    """Pixels."""
    width: int
    paper: tuple[int, int, int]
    """Red, green, blue."""
    ink: tuple[int, int, int]


MNIST_LIKE: Final = Paper(28, 28, (0, 0, 0), (255, 255, 255))
SHEET: Final = Paper(80, 60, (250, 248, 240), (30, 40, 90))


def draw(digit: int, *, seed: int, paper: Paper = MNIST_LIKE) -> Image.Image:
    """Draw a handwriting-like digit: slant, size and strokes vary with the seed.

    The result is an antialiased RGB picture.
    """
    return draw_strokes(_STROKES[digit], np.random.default_rng([seed, digit]), paper=paper)


def draw_strokes(
    strokes: Sequence[Stroke], generator: np.random.Generator, *, paper: Paper = MNIST_LIKE
) -> Image.Image:
    """Draw a glyph from its strokes; slant, rotation, width, pen and wobble are random."""
    fine = 8  # supersampling: Pillow's lines are not antialiased
    tall = 0.66 * paper.height * fine * generator.uniform(0.92, 1.08)
    slant, turn = generator.uniform(-0.05, 0.25), generator.uniform(-0.08, 0.08)
    breadth = generator.uniform(0.9, 1.1)
    pen = tall * generator.uniform(0.085, 0.125)
    middle = np.array([paper.width, paper.height]) * fine / 2
    linear = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    linear = linear @ np.array([[breadth, -slant], [0.0, 1.0]]) * tall

    picture = Image.new("RGB", (paper.width * fine, paper.height * fine), paper.paper)
    canvas = ImageDraw.Draw(picture)
    for stroke in strokes:
        points = np.array(stroke) - [0.35, 0.5]
        points = points + _wobble(len(points), generator)
        _drag(canvas, points @ linear.T + middle, pen, paper.ink)
    return picture.resize((paper.width, paper.height), Image.Resampling.BOX)


def to_png(picture: Image.Image) -> bytes:
    """Encode the picture as PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _wobble(
    count: int, generator: np.random.Generator
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return smooth displacements along a stroke, `[count, 2]`, in units of the digit's height."""
    along = np.linspace(0, 1, count)[:, None]
    phase, rate = generator.uniform(0, 2 * math.pi, 2), generator.uniform(2, 5, 2)
    displacements: Points = 0.02 * np.sin(rate * along + phase)
    return displacements


def _drag(
    canvas: ImageDraw.ImageDraw,
    points: Points,
    pen: float,
    ink: tuple[int, int, int],
) -> None:
    """Draw a line with round ends and joints through the points."""
    corners = [(float(x), float(y)) for x, y in points]
    canvas.line(corners, fill=ink, width=round(pen), joint="curve")
    for x, y in corners:
        canvas.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), fill=ink)
