"""Loss of one picture, mean loss, likelihood, entropy; and the squared error for comparison."""

from typing import Final

import numpy as np
from scipy.special import entr, expit
from scipy.stats import entropy

from logitserve.inference.heads import softmax
from logitserve_training.numerics.activations import EXAMPLE
from logitserve_training.numerics.section import Floats, Section
from logitserve_training.plots import Panel, figure

STATED: Final = np.array([0.3, 0.2, 0.1, 0.4])
TARGET: Final = np.array([0.0, 1.0, 0.0, 0.0])
OF_TRUTH: Final = np.array([0.2, 0.7, 0.9])
"""Stated probability of the true class, for three pictures."""
LOGITS: Final = np.linspace(-20, 10, 601)
_YES: Final = 0.7
_MANY: Final = 55_000
_DISTRIBUTIONS: Final = {
    "one-hot (0, 1, 0, 0)": TARGET,
    "softmax of (5, 2, −1, 3)": softmax(EXAMPLE)[0],
    "ŷ = (0.3, 0.2, 0.1, 0.4) itself": STATED,
    "four equal": np.full(4, 0.25),
}


def measure() -> Section:
    """Measure from explicit formulas in float64."""
    neurons = np.stack([TARGET, STATED, np.log(STATED), -TARGET * np.log(STATED)], axis=1)
    losses = -np.log(OF_TRUTH)
    entropies = [
        [name, entropy(p), entropy(p, base=2), entropy(p) + entropy(p, STATED), entropy(p, STATED)]
        for name, p in _DISTRIBUTIONS.items()
    ]
    p = np.linspace(0.001, 0.999, 999)
    cost = -(_YES * np.log(p) + (1 - _YES) * np.log(1 - p))
    logit = "logit of the true class, the other nine at 0"
    stated = "stated probability p of yes"
    return Section(
        {
            "true_neuron": [
                *([f"neuron {place}", *row] for place, row in enumerate(neurons, start=1)),
                ["sum: the loss", None, None, None, neurons[:, -1].sum()],
            ],
            "likelihood": [
                *([f"picture {i + 1}", OF_TRUTH[i], losses[i]] for i in range(3)),
                ["product, and sum", OF_TRUTH.prod(), losses.sum()],
                ["geometric mean, and J, the mean", OF_TRUTH.prod() ** (1 / 3), losses.mean()],
            ],
            "entropies": entropies,
            "product": 0.9**_MANY,
            "log_likelihood": _MANY * np.log(0.9),
            "least": entropy([0.7, 0.3]),
        },
        {
            "likelihood": figure(
                "The maximum of the likelihood is the minimum of the cross-entropy",
                Panel(
                    "likelihood of 7 yes among 10", stated, "p⁷ (1 − p)³",
                    {"": (p, p**7 * (1 - p) ** 3)}, mark=_YES,
                ),
                Panel(
                    "cross-entropy for the same 10", stated, "nats",
                    {"J: cross-entropy": (p, cost), "H(0.7)": (p, 0 * p + entropy([0.7, 0.3]))},
                    y_range=(0, 2.5), mark=_YES,
                ),
                Panel(
                    "entropy of a binary label", "probability of yes", "H (nats)",
                    {"": (p, entr(p) + entr(1 - p))}, mark=0.5,
                ),
            ),
            "squared": figure(
                "Cross-entropy beside squared error of softmax and one-hot",
                *(
                    Panel(title, logit, y, {n: (LOGITS, b[i]) for n, b in by_logit().items()})
                    for i, (title, y) in enumerate((("loss", "loss"), ("gradient", "d loss / dz")))
                ),
            ),
        },
    )  # fmt: skip


def by_logit() -> dict[str, tuple[Floats, Floats]]:
    """Return loss → its value and derivative by the true class's logit, at `LOGITS`, others 0."""
    wrong = expit(np.log(9) - LOGITS)  # total probability of the other nine
    return {
        "cross-entropy": (np.logaddexp(0, np.log(9) - LOGITS), -wrong),
        "squared error": (10 / 9 * wrong**2, -20 / 9 * wrong**2 * (1 - wrong)),
    }
