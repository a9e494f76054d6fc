"""How many labels it takes to prefer a version, and how often one that is no better is preferred.

    python -m benchmarks.preferring --data FOLDER

`digits` and `digits-mlp` answer MNIST's test pictures. Of those on which they differ one after the
other gets its label, at random, and after each label it is looked whether that is enough. Versions
that are as good: the same pictures, but a coin says which of the two was right. Ten seconds.
"""

import argparse
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime
from scipy.stats import binomtest

from logitserve.inference.comparing import ENOUGH, evidence
from logitserve.inference.predictor import Predictor
from logitserve_training.datasets import mnist
from logitserve_training.progress import Reporter

MODELS: Final = Path(__file__).parents[1] / "models"
RUNS: Final = 4000
MOST: Final = 250
"""Labels, with which a run ends undecided."""

Rows = npt.NDArray[np.int64]


@cache
def by_evidence(first: int, second: int) -> bool:
    """What `logitserve models compare --store` takes."""
    return evidence(first, second) >= ENOUGH


@cache
def by_p_value(first: int, second: int) -> bool:
    """McNemar's exact test, made for one look."""
    return first + second > 0 and bool(binomtest(first, first + second).pvalue < 0.05)


def run(outcomes: Rows, enough: Callable[[int, int], bool]) -> tuple[int, int]:
    """Labels until it is enough, and who is preferred: 1 the first, -1 the second, 0 none.

    Args:
        outcomes: of the pictures in the order of their labels: 1, -1, or 0 where both are wrong.
        enough: whether these counts are.
    """
    first = second = 0
    for labels, outcome in enumerate(outcomes.tolist(), start=1):
        first += outcome > 0
        second += outcome < 0
        if enough(first, second):
            return labels, 1 if first > second else -1
    return len(outcomes), 0


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with MNIST; without it, it is downloaded")
    test = mnist.load(parser.parse_args().data, Reporter()).test
    said = []
    for name in ("digits", "digits-mlp"):
        predictor = Predictor.load(MODELS / name / "1/model.onnx")
        parts = np.array_split(test.images, 20)
        said.append(np.concatenate([predictor.predict(part).argmax for part in parts]))
    right = [answers == test.classes for answers in said]
    differ = np.flatnonzero(said[0] != said[1])
    outcomes = right[0][differ].astype(np.int64) - right[1][differ]
    better, worse = int((outcomes > 0).sum()), int((outcomes < 0).sum())
    neither = len(differ) - better - worse
    print(
        f"digits and digits-mlp differ on {len(differ)} of {len(test.classes)} pictures: only "
        f"digits has {better} right, only digits-mlp {worse}, neither {neither}"
    )
    generator = np.random.default_rng(0)
    orders = [generator.permutation(outcomes)[:MOST] for _ in range(RUNS)]
    found = [run(order, by_evidence) for order in orders]
    labels = [count for count, _ in found]
    median, most = np.quantile(labels, [0.5, 0.95], method="higher").tolist()
    wrong = sum(preferred < 0 for _, preferred in found)
    print(
        f"digits is preferred after {median} labels in the median, {most} in 95 % of the cases, "
        f"{max(labels)} at most; digits-mlp in {wrong} of {RUNS}"
    )
    coins = [np.abs(order) * generator.choice([-1, 1], len(order)) for order in orders]
    for name, enough in (("by evidence", by_evidence), ("by McNemar's test", by_p_value)):
        wrong = sum(run(coin, enough)[1] > 0 for coin in coins)
        print(
            f"as good, looked at after each of {MOST} labels, {name}: the new one is preferred in "
            f"{wrong / RUNS:.1%}"
        )


if __name__ == "__main__":
    onnxruntime.set_default_logger_severity(3)
    main()
