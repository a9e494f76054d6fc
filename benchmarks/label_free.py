"""Accuracy without labels on changed pictures: what it says, what is true, and when it is silent.

    python -m benchmarks.label_free --data FOLDER

`digits` and `digits-mlp` answer MNIST's test pictures as they are and changed, as the service keeps
their answers. Under 3 minutes on one core.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime
from scipy import ndimage

from benchmarks.markdown import Row, table
from logitserve.inference import heads
from logitserve.inference.predictor import Predictions, Predictor
from logitserve_service.monitoring.label_free import why_silent
from logitserve_service.monitoring.store_writer import packed, stated
from logitserve_training.datasets import mnist
from logitserve_training.progress import Reporter

MODELS: Final = Path(__file__).parents[1] / "models"
NAMES: Final = ("digits", "digits-mlp")
POINT: Final = 0.01

Images = npt.NDArray[np.uint8]
Weights = npt.NDArray[np.float64]


def changed(images: Images) -> Iterator[tuple[str, Images, Weights]]:
    """Name of each change, the pictures, and how often each digit is drawn beside the others."""
    pixels, generator = images.astype(np.float64), np.random.default_rng(0)
    alike = np.ones(10)

    def clipped(found: Any) -> Images:
        return np.clip(np.rint(found), 0, 255).astype(np.uint8)

    def each(function: Callable[..., Any], *arguments: Any, **options: Any) -> Images:
        return clipped([function(one[..., 0], *arguments, **options) for one in pixels])[..., None]

    yield "none", images, alike
    for spread in (0.5, 0.8, 1.2):
        yield f"blur σ {spread}", each(ndimage.gaussian_filter, spread), alike
    for spread in (10, 20, 40, 80):
        yield (
            f"noise σ {spread}",
            clipped(pixels + generator.normal(0, spread, pixels.shape)),
            alike,
        )
    for factor in (0.8, 0.5):
        yield f"contrast × {factor}", clipped(pixels * factor), alike
    for angle in (10, 20, 30, 45):
        yield f"turned {angle}°", each(ndimage.rotate, angle, reshape=False, order=1), alike
    sheared = {"matrix": [[1, 0], [0.2, 1]], "offset": [0, -2.8], "order": 1}
    yield "sheared", each(ndimage.affine_transform, **sheared), alike
    coarse = images[:, ::2, ::2, 0]
    yield "pixelated 2 × 2", coarse.repeat(2, axis=1).repeat(2, axis=2)[..., None], alike
    yield "mirrored", images[:, :, ::-1], alike
    yield "upside down", images[:, ::-1], alike
    yield "inverted", 255 - images, alike
    yield "digits by Zipf's law", images, 1 / np.arange(1, 11)
    yield "no sevens", images, np.where(np.arange(10) == 7, 0.0, 1.0)
    yield "half are threes", images, np.where(np.arange(10) == 3, 1.0, 1 / 9)
    yield "fours and nines alone", images, np.where(np.isin(np.arange(10), [4, 9]), 1.0, 0.0)


def estimated(predictor: Predictor, images: Images, truth: Any) -> tuple[float, float, float, str]:
    """Accuracy, its estimate, the share that is known, and why the service says nothing."""
    parts = np.array_split(images, -(-len(images) // 500))
    found = Predictions.concatenated([predictor.predict(part) for part in parts])
    known = 1.0 if found.known is None else float(found.known.mean())
    logits = packed(heads.calibrated(found.logits, predictor.card), predictor.card.head)
    silent = why_silent(predictor.card, known, logits.astype(np.float64))
    return float((found.argmax == truth).mean()), float(stated(found).mean()), known, silent


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with MNIST; without it, it is downloaded")
    test = mnist.load(parser.parse_args().data, Reporter()).test
    predictors = {name: Predictor.load(MODELS / name / "1/model.onnx") for name in NAMES}
    rows: list[Row] = []
    spoken: dict[str, list[float]] = {name: [] for name in NAMES}
    for change, images, weight in changed(test.images):
        weights = weight[test.classes] / weight[test.classes].sum()
        drawn = np.arange(len(images))
        if weights.min() < weights.max():
            drawn = np.random.default_rng(0).choice(len(images), len(images), p=weights)
        row: Row = {"change": change}
        for name, predictor in predictors.items():
            accuracy, estimate, known, silent = estimated(
                predictor, images[drawn], test.classes[drawn]
            )
            row[f"{name}: accuracy"] = f"{accuracy:.4f}"
            row[f"{name}: known"] = f"{known:.2f}"
            row[f"{name}: estimate"] = f"({estimate:.4f})" if silent else f"{estimate:.4f}"
            if not silent:
                spoken[name].append(abs(estimate - accuracy))
        rows.append(row)
    print(table(rows))
    for name, errors in spoken.items():
        near = sum(error <= POINT for error in errors)
        print(
            f"{name}: {len(errors)} of {len(rows)} are estimated, {near} within a point, all "
            f"within {100 * max(errors):.2f} points; the others are silent (in parentheses)"
        )


if __name__ == "__main__":
    onnxruntime.set_default_logger_severity(3)
    main()
