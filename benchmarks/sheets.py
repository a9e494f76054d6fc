"""Digits on disturbed sheets, right and known, and empty ones: `python -m benchmarks.sheets`.

Every kind of sheet is made twice, with a digit of MNIST's test part on it and without, in sizes of
64 to 1,000 pixels (`--sides 28 63`: of others), dark on light and light on dark. The cut-out was
made while looking at the kinds that are `TUNED`, and not at those that are `UNSEEN`; those that are
`LATER` were written after it, but for a few rules (`docs/robustness.md`).
"""

import argparse
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.later_sheets import LATER
from benchmarks.servers import ROOT
from benchmarks.sheet_kinds import TUNED, Field, Kind
from benchmarks.unseen_sheets import UNSEEN
from logitserve.inference import preprocessing
from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import ModelRepository
from logitserve_training import drawings
from logitserve_training.datasets import mnist
from logitserve_training.progress import Reporter

MODELS: Final = ("digits", "digits-mlp", "softmax-regression", "zero")


def sheet(
    kind: Kind, digit: Field | None, g: np.random.Generator, sides: tuple[int, int] = (64, 1000)
) -> npt.NDArray[np.uint8]:
    """A sheet of that kind, uint8 `[side, side]`, with a digit `[28, 28]` or none."""
    side = int(np.exp(g.uniform(*np.log(sides))))
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
    sides: tuple[int, int] = (64, 1000),
) -> list[Any]:
    """A row of the table.

    Returns:
        the share of the digits `[n, 28, 28]` that the first model has right on sheets of that kind,
        and the share it knows; then for each model how many of n empty sheets it knows.
    """
    kind = (TUNED | UNSEEN | LATER)[name]
    g = np.random.default_rng([7, *name.encode()])
    spec = models[0].card.input
    with_digit = preprocessing.prepare(
        [sheet(kind, digit / 255, g, sides) for digit in digits], spec
    )
    empty = preprocessing.prepare([sheet(kind, None, g, sides) for _ in digits], spec)
    found = models[0].predict(with_digit)
    known = [each for each in (model.predict(empty).known for model in models) if each is not None]
    assert found.known is not None
    return [(found.argmax == classes).mean(), found.known.mean(), *[each.sum() for each in known]]


def others(models: list[Predictor]) -> list[list[Any]]:
    """scikit-learn's digits, and canvases that were drawn on: their shares right and known.

    Of the first model; then the share that each of them knows.
    """
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
        found = [
            model.predict(preprocessing.prepare(list(images), model.card.input)) for model in models
        ]
        known = [float(each.known.mean()) for each in found if each.known is not None]
        rows.append([name, float((found[0].argmax == labels).mean()), known[0], *known])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of MNIST [downloaded]")
    parser.add_argument("--count", type=int, default=150, help="sheets of each kind, of each sort")
    parser.add_argument("--sides", type=int, nargs=2, default=(64, 1000), help="pixels, from, to")
    asked = parser.parse_args()
    print(f"| kind | right | known | empty, known of {asked.count}: {' | '.join(MODELS)} |")
    print("|---|---:|---:" + "|---:" * len(MODELS) + "|")
    models = [load(model) for model in MODELS]
    test = mnist.load(asked.data, Reporter()).test
    chosen = np.random.default_rng(0).choice(len(test), asked.count, replace=False)
    digits, classes = test.images[chosen, :, :, 0], test.classes[chosen]
    for title, kinds in (("tuned on", TUNED), ("unseen", UNSEEN), ("later", LATER)):
        numbers = [
            measure(name, digits, classes, models, (asked.sides[0], asked.sides[1]))
            for name in kinds
        ]
        summary = [*np.mean(numbers, axis=0)[:2], *np.sum(numbers, axis=0)[2:]]
        for name, row in zip([*kinds, f"**{title}**"], [*numbers, summary], strict=True):
            print(f"| {name} | {row[0]:.3f} | {row[1]:.3f} |", *[f"{n:g} |" for n in row[2:]])
    for name, *row in others(models):
        print(f"| {name}, known |", *[f"{share:.4f} |" for share in row])


if __name__ == "__main__":
    main()
