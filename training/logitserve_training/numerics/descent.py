"""Gradient descent with a learning rate too small, right and too large, and Adam."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np

from logitserve_training.backend import keras
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.numerics import loop
from logitserve_training.numerics.loop import Effort
from logitserve_training.numerics.section import Floats, Section
from logitserve_training.plots import BLUE, GREEN, GRID, ORANGE, VERMILION, Panel, figure

CURVATURES: Final = np.array([1.0, 25.0])
"""Hessian eigenvalues of the quadratic J(w) = (1·w₁² + 25·w₂²) / 2."""
START: Final = np.array([-9.0, 1.6])
BOWL_STEPS: Final = 40
BOWL_RATES: Final = {"too small": 0.004, "right": float(2 / CURVATURES.sum()), "too large": 0.09}
"""Above 2/25 = 0.08 the steep direction diverges; 2/(1 + 25) shrinks both alike."""
BOWL_ADAM: Final = 0.8

RATES: Final = {"too small": 1e-3, "right": 0.1, "too large": 3.0}
ADAM: Final = 1e-3
_STYLES: Final = {
    name: {"color": color, "marker": marker, "markersize": 3, "linewidth": 1}
    for name, color, marker in (
        ("too small", ORANGE, "o"), ("right", BLUE, "s"), ("too large", VERMILION, "v"),
        ("Adam", GREEN, "D"),
    )
}  # fmt: skip

SIGNS: Final = {
    "all the same": 1.0, "9 of 10 the same": 0.9, "3 of 4 the same": 0.75, "random": 0.5,
    "alternating": 0.0,
}  # fmt: skip
"""Share of a weight's gradients with the more frequent sign; 0: alternating signs."""
SIZES: Final = (0.01, 1.0, 100.0)
_SIGN_STEPS: Final = 400
_WEIGHTS: Final = 512

Gradient = Callable[[int, Floats], Floats]
"""Step number, from 0, and weights → gradient in the shape of the weights."""


def measure(dataset: Dataset, effort: Effort) -> Section:
    """Minimize the quadratic, and train the lecture's network without momentum and with Adam."""
    paths = {name: descend(_slope, START, rate) for name, rate in BOWL_RATES.items()}
    paths["Adam"] = adam(_slope, START, BOWL_ADAM)
    runs = {
        name: loop.repeat(dataset, effort, partial(keras.optimizers.SGD, rate))
        for name, rate in RATES.items()
    }
    with_adam = partial(keras.optimizers.Adam, ADAM)
    runs["Adam"] = loop.repeat(dataset, effort, with_adam)
    early = loop.repeat(dataset, replace(effort, epochs=1, seeds=1), with_adam)
    ratios = {
        "after the first epoch": agreement(early.optimizers[0]),
        "after the last": agreement(runs["Adam"].optimizers[0]),
    }
    rates, bowl_rates = RATES | {"Adam": ADAM}, BOWL_RATES | {"Adam": BOWL_ADAM}
    return Section(
        {
            "bowl": [
                [name, rate, *bowl(paths[name])[[10, 40]]] for name, rate in bowl_rates.items()
            ],
            "descent": [[name, rates[name], run.loss, run.accuracy] for name, run in runs.items()],
            "signs": [
                [name, *(signed_steps(share, size)[-100:].mean() for size in SIZES)]
                for name, share in SIGNS.items()
            ],
            "ratios": [[name, *np.quantile(r, (0.1, 0.5, 0.9))] for name, r in ratios.items()],
            "limit": 2 / CURVATURES.max(),
            "start": bowl(START),
        },
        {
            "descent": figure(
                "Gradient descent at three learning rates, and Adam",
                Panel(
                    "paths on the quadratic", "w₁", "w₂",
                    {n: tuple(p[: 8 if n == "too large" else None].T) for n, p in paths.items()},
                    styles=_STYLES, legend="",
                    x_range=(-10, 4), y_range=(-2.6, 2.6), also=_contours,
                ),
                Panel(
                    "cost of the quadratic", "step", "J",
                    {n: (np.arange(BOWL_STEPS + 1), bowl(path)) for n, path in paths.items()},
                    log="y", styles=_STYLES,
                ),
                Panel(
                    "the 25-15-10 network, batches of 128", "epoch", "training loss (nats)",
                    {name: (effort.axis, run.losses) for name, run in runs.items()},
                    log="y", styles=_STYLES, legend="",
                ),
            ),
            "adam": figure(
                "Step size of Adam, by the signs of a weight's gradients",
                Panel(
                    "mean of 512 weights", "step", "step size / learning rate",
                    {n: (np.arange(100), signed_steps(q, 1.0)[:100]) for n, q in SIGNS.items()},
                    y_range=(0, 1.75), legend="upper right",
                ),
            ),
        },
    )  # fmt: skip


def bowl(weights: Floats) -> Floats:
    """Return J over the last axis."""
    height: Floats = (CURVATURES * weights**2).sum(axis=-1) / 2
    return height


def descend(
    gradient: Gradient, start: Floats, rate: float, steps: int = BOWL_STEPS, *, decay: float = 0.0
) -> Floats:
    """Run gradient descent with decoupled weight decay: `[steps + 1, *shape]`."""
    path = [start]
    for step in range(steps):
        path.append(path[-1] * (1 - rate * decay) - rate * gradient(step, path[-1]))
    return np.stack(path)


def adam(
    gradient: Gradient, start: Floats, rate: float, steps: int = BOWL_STEPS, *, decay: float = 0.0
) -> Floats:
    """Run Adam (Kingma and Ba 2015, arXiv:1412.6980), Keras's constants: `[steps + 1, *shape]`."""
    beta1, beta2, epsilon = 0.9, 0.999, 1e-7
    path, mean, square = [start], np.zeros_like(start), np.zeros_like(start)
    for step in range(steps):
        slope = gradient(step, path[-1])
        mean = beta1 * mean + (1 - beta1) * slope
        square = beta2 * square + (1 - beta2) * slope**2
        m, v = mean / (1 - beta1 ** (step + 1)), square / (1 - beta2 ** (step + 1))
        path.append(path[-1] * (1 - rate * decay) - rate * m / (np.sqrt(v) + epsilon))
    return np.stack(path)


def signed_steps(share: float, size: float) -> Floats:
    """Return the mean |step| / rate of weights whose gradients have this sign share, `[steps]`."""
    shape = (_SIGN_STEPS, _WEIGHTS)
    signs = np.where(np.random.default_rng(0).random(shape) < share, 1.0, -1.0)
    if share == 0:
        signs[::2] = 1.0
    path = adam(lambda step, _: size * signs[step], np.zeros(_WEIGHTS), 1.0, _SIGN_STEPS)
    steps: Floats = np.abs(np.diff(path, axis=0)).mean(axis=1)
    return steps


def agreement(optimizer: Any) -> Floats:
    """Return |m| / √v of each weight that Keras's Adam has updated, `[weights]`."""
    count = int(optimizer.iterations.numpy())
    m, v = (
        np.concatenate([moment.numpy().ravel() for moment in moments]) / (1 - beta**count)
        for moments, beta in (
            (optimizer._momentums, optimizer.beta_1),  # noqa: SLF001 - there is no public attribute
            (optimizer._velocities, optimizer.beta_2),  # noqa: SLF001
        )
    )
    ratio: Floats = np.abs(m[v > 0]) / np.sqrt(v[v > 0])
    return ratio


def _slope(_: int, weights: Floats) -> Floats:
    return CURVATURES * weights


def _contours(axes: Any) -> None:
    first, second = np.meshgrid(np.linspace(-10, 4, 141), np.linspace(-2.6, 2.6, 105))
    heights = bowl(np.stack([first, second], axis=-1))
    axes.contour(first, second, heights, np.geomspace(0.5, 120, 9), colors=GRID)
    axes.plot(0, 0, "+", color="black", markersize=11)
