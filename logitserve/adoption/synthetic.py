"""Draw seeded synthetic pictures to test adopted models with."""

import numpy as np
from PIL import Image, ImageDraw

from logitserve.inference.card import InputSpec
from logitserve.inference.images import Samples, encode_png

SEED = 11
COUNT = 8


def draw(spec: InputSpec) -> list[bytes]:
    """Return PNG pictures of the input's size, alternately of colored blocks and of strokes.

    Blocks, unlike pixel noise, compress well in the card.
    """
    return [
        encode_png(_blocks(spec, number) if number % 2 else _strokes(spec, number))
        for number in range(COUNT)
    ]


def _blocks(spec: InputSpec, number: int) -> Samples:
    generator = np.random.default_rng([SEED, number])
    side = max(1, min(spec.height, spec.width) // int(generator.integers(6, 17)))
    rows, columns = -(-spec.height // side), -(-spec.width // side)
    coarse = generator.integers(0, 256, (rows, columns, spec.channels), dtype=np.uint8)
    fine = coarse.repeat(side, axis=0).repeat(side, axis=1)[: spec.height, : spec.width]
    return fine[..., 0] if spec.channels == 1 else fine


def _strokes(spec: InputSpec, number: int) -> Samples:
    """Draw light lines on a dark background, like MNIST."""
    generator = np.random.default_rng([SEED, number])
    picture = Image.new("L" if spec.channels == 1 else "RGB", (spec.width, spec.height))
    canvas = ImageDraw.Draw(picture)
    pen = max(1, min(spec.height, spec.width) // 10)
    for _ in range(3):
        points = generator.uniform(0.15, 0.85, (3, 2)) * [spec.width, spec.height]
        color = tuple(map(int, generator.integers(128, 256, 3)))
        ink = color[0] if spec.channels == 1 else color
        canvas.line([(float(x), float(y)) for x, y in points], fill=ink, width=pen)
    return np.asarray(picture)
