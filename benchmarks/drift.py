"""Alarms of the watch: how many false ones, and after how many pictures a change is found.

    python -m benchmarks.drift --data FOLDER

`digits` answers MNIST's test pictures once as they are and once for each change; streams are drawn
from these answers, each with a reference of 5,000 pictures of its own. The last table goes through
the test file in its own order, where writers come one after the other, after a live baseline.
Under 4 minutes on one core.
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
from logitserve.inference import features
from logitserve.inference.features import Values
from logitserve.inference.predictor import Predictor
from logitserve_service.monitoring.windows import DriftTests, Rule, WindowState
from logitserve_training.datasets import mnist
from logitserve_training.progress import Reporter

FILE: Final = Path(__file__).parents[1] / "models/digits/1/model.onnx"
RULE: Final = Rule(false_alarm_every=1_000_000, floor=0.02)
STREAMS: Final = 60
PICTURES: Final = 20_000
MOST: Final = 12_800
"""Pictures in which a change may be found."""
STEP: Final = 50
"""Pictures that arrive between two looks at the counts."""
BASELINE: Final = 2000

Images = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


def changed(images: Images) -> Iterator[tuple[str, Images, Callable[[int], float]]]:
    """Name of each change, the pictures, and how often a digit is drawn beside the others."""
    generator = np.random.default_rng(0)
    pixels = images.astype(np.float64)

    def each(function: Callable[..., Any], *arguments: Any, **options: Any) -> Images:
        found = np.stack([function(one[..., 0], *arguments, **options) for one in pixels])
        return np.clip(np.rint(found), 0, 255).astype(np.uint8)[..., None]

    def noisy(spread: float) -> Images:
        found = pixels + generator.normal(0, spread, pixels.shape)
        return np.clip(np.rint(found), 0, 255).astype(np.uint8)

    def alike(_: int) -> float:
        return 1.0

    yield "blur σ 0.8", each(ndimage.gaussian_filter, 0.8), alike
    yield "blur σ 0.5", each(ndimage.gaussian_filter, 0.5), alike
    yield "noise σ 10", noisy(10), alike
    yield "contrast × 0.8", np.rint(pixels * 0.8).astype(np.uint8), alike
    yield "turned 20°", each(ndimage.rotate, 20, reshape=False, order=1), alike
    yield "digits by Zipf's law", images, lambda digit: 1 / (digit + 1)
    yield "no sevens", images, lambda digit: float(digit != 7)
    yield "three times the sevens", images, lambda digit: 3.0 if digit == 7 else 1.0


class Streams:
    """Draws streams of counts from features that were computed once."""

    def __init__(self, predictor: Predictor, images: Images) -> None:
        self.predictor = predictor
        self.clean = self.values(images)

    def values(self, images: Images) -> Values:
        """The features of pictures."""
        parts = [images[start : start + 500] for start in range(0, len(images), 500)]
        card = self.predictor.card
        predict = self.predictor.predict
        return features.joined([features.measure(part, predict(part), card) for part in parts])

    def drift_tests(self, rows: Rows) -> DriftTests:
        """One whose reference are these clean pictures."""
        card = self.predictor.card
        return DriftTests(card, features.reference(_rows(self.clean, rows), card), RULE)

    def alarms(self, drift_tests: DriftTests, values: Values, rows: Rows) -> list[int]:
        """Picture of each alarm in a stream of such rows."""
        state = WindowState.at(np.zeros(drift_tests.bins.width, np.int64), 0)
        return [at for at, _ in _alarms(drift_tests, state, values, rows)]


def _rows(values: Values, rows: Rows) -> Values:
    return {name: found[rows] for name, found in values.items()}


def _alarms(
    drift_tests: DriftTests, state: WindowState, values: Values, rows: Rows
) -> Iterator[tuple[int, str]]:
    """Go through a stream: after how many pictures an alarm begins, and its sentence."""
    totals = np.array(state.starts[0])
    for start in range(0, len(rows), STEP):
        totals = totals + drift_tests.bins.count(_rows(values, rows[start : start + STEP]))
        for _, sentence in drift_tests.run(state, totals, 0):
            yield start + STEP, sentence


def shuffled(streams: Streams, images: Images, truth: Rows) -> tuple[str, list[Row]]:
    """False alarms in clean streams, and pictures until each change is found."""
    generator = np.random.default_rng(1)
    count = len(truth)
    references = [streams.drift_tests(generator.integers(count, size=5000)) for _ in range(STREAMS)]
    false = [
        streams.alarms(drift_tests, streams.clean, generator.integers(count, size=PICTURES))
        for drift_tests in references
    ]
    said = (
        f"{sum(map(len, false))} false alarms, in {sum(map(bool, false))} of {STREAMS} streams of "
        f"{PICTURES:,} clean pictures ({STREAMS * PICTURES / RULE.false_alarm_every:.1f} expected)"
    )
    rows: list[Row] = []
    for name, pictures, weight in changed(images):
        values = streams.values(pictures)
        weights = np.array([weight(digit) for digit in range(10)])[truth]
        found, sentence = [], ""
        for drift_tests in references:
            drawn = generator.choice(count, MOST, p=weights / weights.sum())
            state = WindowState.at(np.zeros(drift_tests.bins.width, np.int64), 0)
            at, sentence = next(_alarms(drift_tests, state, values, drawn), (10 * MOST, sentence))
            found.append(at)
        median, most = np.quantile(found, [0.5, 0.95], method="higher").tolist()
        shown = [f"{each:,}" if each <= MOST else "–" for each in (median, most)]
        rows.append({"change": name, "median": shown[0], "95 %": shown[1], "it says": sentence})
    return said, rows


def in_own_order(streams: Streams, images: Images) -> Iterator[str]:
    """Alarms in the second half of the test file after a live baseline, clean and changed."""
    middle = len(images) // 2
    baseline, rest = np.split(np.arange(middle, len(images)), [BASELINE])
    drift_tests = streams.drift_tests(np.arange(middle))
    for name, pictures, _ in [("clean", images, None), *list(changed(images))[:4]]:
        state = WindowState.at(np.zeros(drift_tests.bins.width, np.int64), 0)
        before = list(_alarms(drift_tests, state, streams.clean, baseline))
        totals = np.array(state.blocks[-1])
        accepted = drift_tests.accept(state, totals, 0)
        if accepted is None:
            raise RuntimeError("the baseline is too short")
        found = list(_alarms(drift_tests, accepted, streams.values(pictures), rest))
        if name == "clean":
            yield f"against the reference: {len(before)} alarms in {BASELINE:,} pictures"
            spread = ", ".join(f"{name} {each:.1f}" for name, each in accepted.dispersion.items())
            yield f"dispersion of the baseline: {spread}"
            yield f"after it: {len(found)} alarms in {len(rest):,} pictures, {found}"
        else:
            yield f"{name}: found after {found[0][0] if found else 'none'}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with MNIST; without it, it is downloaded")
    test = mnist.load(parser.parse_args().data, Reporter()).test
    streams = Streams(Predictor.load(FILE), test.images)
    said, rows = shuffled(streams, test.images, test.classes)
    print(said, table(rows), *in_own_order(streams, test.images), sep="\n\n")


if __name__ == "__main__":
    onnxruntime.set_default_logger_severity(3)
    main()
