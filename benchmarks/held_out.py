"""Calibration, thresholds and prediction sets where the truth is known, on few held-out pictures.

    python -m benchmarks.held_out

prints what each way costs on new pictures of the same kind. Beside what the project does stand what
it could do instead, so that the choice can be seen to be one.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logit, softmax
from scipy.stats import norm
from sklearn.metrics import precision_recall_curve

from benchmarks.markdown import Row, table
from logitserve.inference import conformal
from logitserve.inference.card import Conformal, Head
from logitserve_training.statistics import calibration, intervals, thresholds
from logitserve_training.statistics.calibration import losses

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SIZES: Final = (9, 18, 30, 100, 500)
TEMPERATURES: Final = (1.0, 0.3, 2.0)
_DRAWS: Final = 150
_NEW: Final = 2_000
_SPREAD: Final = {1.0: 2.0, 0.3: 1.5, 2.0: 3.2}
"""Standard deviation of the logits, for each right temperature."""


def most_likely(logits: Floats, classes: Ints) -> float:
    """The temperature of the highest likelihood, between e⁻³ and e³."""

    def nll(log_temperature: float) -> float:
        return float(losses(Head.SOFTMAX, logits / np.exp(log_temperature), classes).mean())

    return float(np.exp(minimize_scalar(nll, bounds=(-3, 3), method="bounded").x))


def kept_if_it_helps(logits: Floats, classes: Ints) -> float:
    """The same, if it gains more than one standard error under tenfold cross-validation, else 1."""
    rows = np.arange(len(logits))
    before = losses(Head.SOFTMAX, logits, classes)
    after = before.copy()
    for fold in np.array_split(rows, min(10, len(rows))):
        rest = np.setdiff1d(rows, fold)
        temperature = most_likely(logits[rest], classes[rest])
        after[fold] = losses(Head.SOFTMAX, logits[fold] / temperature, classes[fold])
    gains = before - after
    kept = gains.mean() > gains.std() / len(gains) ** 0.5
    return most_likely(logits, classes) if kept else 1.0


def calibrations() -> Iterator[Row]:
    """Excess over the NLL of the right temperature, nats: mean of the draws, the worst in brackets.

    It is exact, over the true probabilities of new pictures.
    """
    generator = np.random.default_rng(0)
    ways: dict[str, Callable[[Floats, Ints], float]] = {
        "raw": lambda *_: 1.0,
        "keep or drop": kept_if_it_helps,
        "here": calibration.fit_temperature,
    }
    for right in TEMPERATURES:
        for size in SIZES:
            costs: dict[str, list[float]] = {way: [] for way in ways}
            new = generator.normal(0, _SPREAD[right], (_NEW, 3))
            truth = softmax(new / right, axis=1)
            least = -(truth * log_softmax(new / right, axis=1)).sum(axis=1).mean()
            for _ in range(_DRAWS):
                logits = generator.normal(0, _SPREAD[right], (size, 3))
                cumulative = softmax(logits / right, axis=1).cumsum(axis=1)[:, :-1]
                classes = (generator.random((size, 1)) > cumulative).sum(axis=1)
                for way, fit in ways.items():
                    said = log_softmax(new / fit(logits, classes), axis=1)
                    costs[way].append(float(-(truth * said).sum(axis=1).mean() - least))
            cells = {
                way: f"{np.mean(cost):.3f} ({np.max(cost):.2f})" for way, cost in costs.items()
            }
            yield {"right T, held out": f"{right:g}, {size}", **cells}


def highest_seen(probabilities: Floats, outcomes: Ints) -> float:
    """The threshold of the highest F1 on the pictures themselves."""
    if outcomes.min() == outcomes.max():
        return 0.5
    precision, recall, steps = precision_recall_curve(outcomes, probabilities)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(steps[f1[:-1].argmax()])


def f1s() -> Iterator[Row]:
    """F1 on new pictures of one label, exact: mean of the draws, tenth percentile in brackets.

    Of pictures with the label x ~ N(distance, 1), of the others N(0, 1); the probabilities are
    right.
    """
    generator = np.random.default_rng(1)
    for prevalence, distance, size in (
        (0.05, 3, 40), (0.05, 3, 150), (0.05, 2, 70), (0.3, 2, 70), (0.3, 2, 500),
    ):  # fmt: skip
        found: dict[str, list[float]] = {"highest seen": [], "0.5": [], "here": []}
        f1 = partial(_f1, prevalence=prevalence, distance=distance)
        for _ in range(500):
            outcomes = (generator.random(size) < prevalence).astype(np.int64)
            x = generator.normal(distance * outcomes, 1)
            probabilities = expit(distance * x - distance**2 / 2 + logit(prevalence))
            found["highest seen"].append(f1(highest_seen(probabilities, outcomes)))
            found["0.5"].append(f1(0.5))
            found["here"].append(f1(thresholds.best(probabilities[:, np.newaxis])[0]))
        best = max(f1(threshold) for threshold in np.linspace(0.05, 0.95, 91).tolist())
        cells = {
            way: f"{np.mean(each):.3f} ({np.quantile(each, 0.1):.2f})"
            for way, each in found.items()
        }
        name = "prevalence, distance, held out"
        yield {name: f"{prevalence:g}, {distance}, {size}", **cells, "best": f"{best:.3f}"}


def _f1(threshold: float, *, prevalence: float, distance: float) -> float:
    x = (logit(threshold) + distance**2 / 2 - logit(prevalence)) / distance
    found, false = prevalence * norm.sf(x - distance), (1 - prevalence) * norm.sf(x)
    return float(2 * found / (found + false + prevalence))


def coverages() -> Iterator[Row]:
    """Coverage of a common and of a rare, hard label, at several that are asked for.

    For each: found with one threshold for all labels, and with one for each, over new pictures;
    then how many of the draws lie within the 95 % interval of their label.
    """
    generator = np.random.default_rng(2)
    shares = np.array([0.8, 0.12, 0.08])

    def drawn(count: int) -> tuple[Floats, Ints]:
        classes = generator.choice(3, count, p=shares)
        logits = (
            generator.normal(0, 1, (count, 3))
            + np.array([3.0, 1.0, 1.0])[classes][:, np.newaxis] * np.eye(3)[classes]
            + np.log(shares)
        )
        return conformal.scores(softmax(logits, axis=1)), classes

    def covered(found: Conformal, scores: Floats, truth: Ints, step: int) -> Floats:
        held = scores[np.arange(len(truth)), truth] <= found.table[step][truth]
        return np.array([held[truth == label].mean() for label in range(3)])

    for asked, step in ((0.9, 40), (0.95, 45), (0.99, 49)):
        alike: list[Floats] = []
        each: list[Floats] = []
        within: list[list[bool]] = []
        for _ in range(_DRAWS):
            scores, classes = drawn(5_000)
            of_truth = scores[np.arange(len(classes)), classes]
            found = conformal.calibrate(of_truth, classes, 3)
            marginal = Conformal(**found.model_dump() | {"thresholds_by_label": ((), (), ())})
            new, truth = drawn(10_000)
            alike.append(covered(marginal, new, truth, step))
            each.append(covered(found, new, truth, step))
            limits = [
                intervals.of_coverage(asked, known, tested)
                for known, tested in zip(found.pictures_by_label, np.bincount(truth), strict=True)
            ]
            within.append(
                [low <= one <= high for one, (low, high) in zip(each[-1], limits, strict=True)]
            )
        for label, name in enumerate(("common", "rare", "rarest")):
            yield {
                "asked, label": f"{100 * asked:g} %, {name}",
                "one threshold": f"{100 * np.mean(alike, axis=0)[label]:.1f} %",
                "here": f"{100 * np.mean(each, axis=0)[label]:.1f} %",
                "within its interval": f"{100 * np.mean(within, axis=0)[label]:.0f} %",
            }


def main() -> None:
    """Print the three tables."""
    for title, rows in (
        ("Excess NLL over the right temperature, nats: mean (worst) of 150 draws", calibrations()),
        ("F1 on new pictures: mean (tenth percentile) of 500 draws", f1s()),
        ("Coverage by label, 5,000 held out, mean of 150 draws", coverages()),
    ):
        print(f"{title}\n\n{table(list(rows))}")


if __name__ == "__main__":
    main()
