"""Gradient descent with a rate too small, right and too large, beside Adam."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from logitserve_training.backend import keras
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.numerics import loop
from logitserve_training.numerics.loop import Curve
from logitserve_training.numerics.roundoff import Numbers

Floats = npt.NDArray[np.float64]

CURVATURES: Final = np.array([1.0, 25.0])
"""Of the bowl J(w) = (1·w₁² + 25·w₂²) / 2: the eigenvalues of its Hessian."""
START: Final = np.array([-9.0, 1.6])
BOWL_STEPS: Final = 40
BOWL_RATES: Final = {
    "too small": 0.004,
    "right": float(2 / CURVATURES.sum()),
    "too large": 0.0802,
}
"""Beyond 2/25 = 0.08 the steep direction grows at each step; 2/(1 + 25) shrinks both alike."""
BOWL_ADAM: Final = 0.8

RATES: Final = {"too small": 1e-3, "right": 0.1, "too large": 3.0}
ADAM: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Descent:
    """The paths in the bowl and the curves of the lecture's network, by name."""

    paths: dict[str, Floats]
    """`[steps + 1, 2]`."""
    curves: dict[str, Curve]

    @property
    def numbers(self) -> Numbers:
        """For the page."""
        heights = {name: bowl(path) for name, path in self.paths.items()}
        return {
            "steps": BOWL_STEPS,
            "limit": float(2 / CURVATURES.max()),
            "start": float(bowl(START)),
            "bowl": [
                {"name": name, "rate": rate, "height": float(heights[name][-1])}
                for name, rate in (BOWL_RATES | {"Adam": BOWL_ADAM}).items()
            ],
            "epochs": len(self.curves["Adam"].losses) - 1,
            "network": [
                {"name": name, "rate": rate} | self.curves[name].numbers
                for name, rate in (RATES | {"Adam": ADAM}).items()
            ],
        }


def measure(dataset: Dataset, *, epochs: int, seed: int) -> Descent:
    """Descend in the bowl, and train the lecture's network without momentum and with Adam."""
    paths = {name: gradient_descent(rate) for name, rate in BOWL_RATES.items()}
    optimizers: dict[str, Callable[[], object]] = {
        name: lambda rate=rate: keras.optimizers.SGD(rate)  # type: ignore[misc]
        for name, rate in RATES.items()
    }
    optimizers["Adam"] = lambda: keras.optimizers.Adam(ADAM)
    curves = {}
    for name, make in optimizers.items():
        network = loop.fresh(dataset.train, seed=seed)
        curves[name] = loop.train(network, dataset, optimizer=make(), epochs=epochs, seed=seed)
    return Descent(paths | {"Adam": adam(BOWL_ADAM)}, curves)


def bowl(weights: Floats) -> Floats:
    """J of the last axis."""
    height: Floats = (CURVATURES * weights**2).sum(axis=-1) / 2
    return height


def gradient_descent(rate: float) -> Floats:
    """Subtract rate · dJ/dw again and again, from the start: `[steps + 1, 2]`."""
    path = [START]
    for _ in range(BOWL_STEPS):
        path.append(path[-1] - rate * CURVATURES * path[-1])
    return np.stack(path)


def adam(rate: float, *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-7) -> Floats:
    """Adam (Kingma and Ba 2015, arXiv:1412.6980), from the start: `[steps + 1, 2]`."""
    path, mean, square = [START], np.zeros(2), np.zeros(2)
    for step in range(1, BOWL_STEPS + 1):
        gradient = CURVATURES * path[-1]
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        corrected = mean / (1 - beta1**step), square / (1 - beta2**step)
        path.append(path[-1] - rate * corrected[0] / (np.sqrt(corrected[1]) + epsilon))
    return np.stack(path)
