"""Draw pictures that are not digits, as negative examples for training.

Letters and symbols of Matplotlib's fonts, and random strokes; two digits, half a digit; textures.
`out_of_distribution` has those for evaluation: other letters, other fonts, photographs, and more.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from logitserve.inference import preprocessing
from logitserve.inference.card import InputSpec
from logitserve_training.datasets.dataset import Images
from logitserve_training.disturb import noise
from logitserve_training.drawings import Stroke, arc, draw_strokes

Gray = npt.NDArray[np.uint8]

SIGNS: Final = (
    "ACEFHKMNPRTUVWXYacefhkmnprtuvwxydp"
    "ΓΔΘΛΞΠΣΦΨΩαγδηκλμνξπρφχψωЖИЙЛПФЦШЩЮЯгджиклмнптфхцшщюя#%&@$?+=*<>~^¥€§¶÷±≠≈∞∂∑∫√"
)
"""Characters that cannot be read as a digit."""
FONTS: Final = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono-Oblique", "STIXGeneralItalic")


def make(digits: Images, spec: InputSpec, seed: int, *, count: int) -> Images:
    """Draw `count` pictures of each kind, and two or three times as many symbols and textures.

    Pairs and halves are made from prepared pictures of digits. The result is uint8, `[n, height,
    width, 1]`.
    """
    generator = np.random.default_rng([seed, 411])
    kinds = [_sign, _sign, _sign, _scrawl, _pairs(digits[..., 0]), _halves(digits[..., 0])]
    kinds += [_texture, _texture, _scene]
    pictures = [kind(generator) for kind in kinds for _ in range(count)]
    return preprocessing.prepare(pictures, spec).images


def _sign(generator: np.random.Generator) -> Gray:
    """Draw a character of a font, deformed like handwriting."""
    name = FONTS[generator.integers(len(FONTS))]
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    font = ImageFont.truetype(folder / f"{name}.ttf", 44)
    sheet = Image.new("L", (84, 84))
    pen = int(generator.integers(0, 4))
    sign = SIGNS[generator.integers(len(SIGNS))]
    ImageDraw.Draw(sheet).text((42, 42), sign, 255, font, anchor="mm", stroke_width=pen)
    turn, slant, wide = generator.uniform((-0.2, -0.3, 0.75), (0.2, 0.3, 1.3))
    across, down = (np.cos(turn) / wide, slant), (np.sin(turn), np.cos(turn))
    shifts = [42 - 42 * (row[0] + row[1]) for row in (across, down)]
    matrix = (*across, shifts[0], *down, shifts[1])
    bent = sheet.transform(sheet.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(bent)


def _scrawl(generator: np.random.Generator) -> Gray:
    """Draw two to five random strokes."""
    strokes: list[Stroke] = []
    for _ in range(generator.integers(2, 6)):
        x, y, radius, squeezed = generator.uniform((0, 0, 0.1, 0.5), (0.7, 1, 0.4, 1.5))
        begin, sweep = generator.uniform((0, 60), (360, 330))
        if generator.random() < 0.4:
            strokes.append(arc((x, y), (radius, radius * squeezed), (begin, begin + sweep)))
        else:
            corners = generator.uniform((0, 0), (0.7, 1), (generator.integers(2, 4), 2))
            strokes.append([(float(x), float(y)) for x, y in corners])
    return np.asarray(draw_strokes(strokes, generator).convert("L"))


def _pairs(digits: Gray) -> Callable[[np.random.Generator], Gray]:
    """Return a function that draws two digits side by side, or one below the other."""

    def pair(generator: np.random.Generator) -> Gray:
        one, other = digits[generator.integers(len(digits), size=2)]
        wide = 28 + int(generator.integers(14, 24))
        sheet = np.zeros((28 + int(generator.integers(0, 6)), wide), np.uint8)
        sheet[:28, :28] = one
        sheet[-28:, -28:] = np.maximum(sheet[-28:, -28:], other)
        if generator.random() < 0.2:
            sheet = np.vstack([one[:24], other[4:]])
        if generator.random() < 0.4:  # unchanged, but squeezed
            return np.asarray(Image.fromarray(sheet).resize((28, 28), Image.Resampling.BOX))
        return sheet

    return pair


def _halves(digits: Gray) -> Callable[[np.random.Generator], Gray]:
    """Return a function that draws half of a digit, in place or centered.

    Half of a 0, 1 or 7 may look like a 1, so the part that is kept cannot be read as a digit: the
    upper or lower half, or the left or right of a wide digit.
    """

    def half(generator: np.random.Generator) -> Gray:
        digit = digits[generator.integers(len(digits))].copy()
        kept = digit.any(axis=0).sum() > 14
        turned = kept and generator.random() < 0.5
        view = digit.T if turned else digit
        cut = int(generator.integers(12, 16))
        if generator.random() < 0.5:
            view[cut:] = 0
        else:
            view[:cut] = 0
        sheet = np.zeros((40, 40), np.uint8)
        sheet[6:34, 6:34] = digit
        return sheet if generator.random() < 0.6 else digit

    return half


def _texture(generator: np.random.Generator) -> Gray:
    """Draw squares, stripes, rings, clouds, grain, dots, or a blank sheet."""
    side = 28 if generator.random() < 0.6 else int(generator.integers(29, 80))
    y, x = np.mgrid[:side, :side] - side / 2
    angle, phase = generator.uniform((0, 0), (np.pi, 2 * np.pi))
    if generator.random() < 0.5:
        angle = generator.choice([0, np.pi / 2])
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    wave = 2 * np.pi / generator.uniform(2, side / 1.5)
    sharpness = generator.choice([1, 30])
    drawn = (
        lambda: sharpness * np.sin(along * wave + phase),
        lambda: sharpness * np.sin(along * wave + phase) * np.sin(across * wave),
        lambda: sharpness * np.sin(np.hypot(x, y) * wave + phase),
        lambda: noise((1, side, side), generator, generator.uniform(0, 3))[0],
        lambda: 2.0 * (generator.random((side, side)) < generator.uniform(0.01, 0.5)) - 1,
        lambda: np.full((side, side), generator.uniform(-1, 1)),
        lambda: along / side * generator.uniform(0.2, 2),
    )[generator.integers(7)]()
    middle, depth = generator.uniform((40, 15), (215, 128))
    if generator.random() < 0.4:
        middle, depth = 127.5, 127.5
    grain = generator.choice([0, 0, 4, 20]) * generator.standard_normal((side, side))
    return np.asarray((middle + depth * np.clip(drawn, -1, 1) + grain).clip(0, 255), np.uint8)


def _scene(generator: np.random.Generator) -> Gray:
    """Draw overlapping objects, with statistics of photographs (Lee, Mumford, Huang 2001)."""
    side = 28 if generator.random() < 0.5 else int(generator.integers(29, 90))
    scene = Image.new("L", (side, side), int(generator.integers(256)))
    canvas = ImageDraw.Draw(scene)
    for _ in range(generator.integers(3, 30)):
        x, y = generator.uniform(-0.2, 1.2, 2) * side
        wide, high = side * np.exp(generator.uniform(-3, -0.5, 2))
        shape = canvas.ellipse if generator.random() < 0.5 else canvas.rectangle
        shape((x - wide, y - high, x + wide, y + high), fill=int(generator.integers(256)))
    grain = generator.uniform(0, 12) * generator.standard_normal((side, side))
    return (np.asarray(scene) + grain).clip(0, 255).astype(np.uint8)
