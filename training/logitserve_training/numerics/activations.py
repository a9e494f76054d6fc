"""Round-off; softmax: a worked example, its limits, and its form for two classes."""

from fractions import Fraction
from typing import Final

import numpy as np

from logitserve.inference.heads import scaled, sigmoid, softmax
from logitserve_training.numerics.section import Floats, Section
from logitserve_training.plots import Panel, figure

EXAMPLE: Final = np.array([[5.0, 2.0, -1.0, 3.0]])
TEMPERATURES: Final = np.logspace(-2, 3, 251)
_TABLE: Final = (0.01, 0.1, 0.5, 1.0, 2.0, 10.0, 1000.0)
_LOGITS: Final = np.array([0.0, 1.0, 10.0, 20.0, 40.0, 100.0, 500.0])


def hardmax(logits: Floats) -> Floats:
    """Return 1 for the largest logit and 0 for the rest, `[n, k]`; ties share."""
    is_largest = logits == logits.max(axis=-1, keepdims=True)
    shared: Floats = is_largest / is_largest.sum(axis=-1, keepdims=True)
    return shared


def cooled() -> Floats:
    """Return the softmax of the example at each of `TEMPERATURES`, `[temperatures, classes]`."""
    return np.concatenate([softmax(scaled(EXAMPLE, t)) for t in TEMPERATURES])


def measure() -> Section:
    """Measure in float64."""
    steps = np.concatenate([EXAMPLE, np.exp(EXAMPLE), softmax(EXAMPLE), hardmax(EXAMPLE)])
    example = [[f"neuron {place}", *row] for place, row in enumerate(steps.T, start=1)]
    names = [f"z = {z:g}".replace("-", "−") for z in EXAMPLE[0]]
    by_temperature = [[f"T = {t:g}", *softmax(scaled(EXAMPLE, t))[0]] for t in _TABLE]
    first, second = np.meshgrid(np.linspace(-200, 200, 801), np.linspace(-200, 200, 801))
    pairs = np.stack([first.ravel(), second.ravel()], axis=1)
    both = softmax(pairs)
    return Section(
        {
            "example": [*example, ["sum", None, *steps[1:].sum(axis=1)]],
            "temperatures": [["hardmax", *hardmax(EXAMPLE)[0]], *by_temperature],
            "two": [[f"{z:g}", 1 - sigmoid(z), sigmoid(-z)] for z in _LOGITS],
            "tie": softmax(scaled(np.array([[2.0, 2.0, 1.0]]), 0.01))[0],
            "pairs": len(pairs),
            "difference": np.abs(both[:, 1] - sigmoid(pairs[:, 1] - pairs[:, 0])).max(),
            "sum": np.abs(both.sum(axis=1) - 1).max(),
        },
        {
            "temperature": figure(
                "Softmax(z / T): from hardmax to uniform",
                Panel(
                    "each class", "temperature T", "probability",
                    {name: (TEMPERATURES, p) for name, p in zip(names, cooled().T, strict=True)},
                    log="x",
                ),
                Panel(
                    "distance to both limits", "temperature T", "largest difference",
                    {
                        f"from {name}": (TEMPERATURES, np.abs(cooled() - end).max(axis=1))
                        for name, end in (("hardmax", hardmax(EXAMPLE)), ("uniform", 1 / 4))
                    },
                    log="xy", y_range=(1e-17, 3),
                ),
            )
        },
    )  # fmt: skip


def roundoff() -> Section:
    """Compute 2/10000 directly, and by adding it to and subtracting it from 1."""
    one, part = np.float32(1), np.float32(1) / np.float32(10000)
    ways = {
        "`2.0 / 10000`": 2.0 / 10000,
        "`1 + (1/10000) - (1 - 1/10000)`": 1 + (1 / 10000) - (1 - 1 / 10000),
        "the first in float32": float(np.float32(2) / np.float32(10000)),
        "the second in float32": float((one + part) - (one - part)),
    }
    exact = Fraction(2, 10000)
    rows = [[way, value, float(abs(Fraction(value) / exact - 1))] for way, value in ways.items()]
    return Section({"roundoff": rows}, {})
