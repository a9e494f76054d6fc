"""Weight decay: the lecture's factor of 2, stability, decoupled decay and L2 penalty.

Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization" (arXiv:1711.05101).
"""

from itertools import product
from typing import Any, Final

import numpy as np

from logitserve_training.backend import keras
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.numerics import loop
from logitserve_training.numerics.descent import adam, descend
from logitserve_training.numerics.loop import Effort
from logitserve_training.numerics.section import Floats, Section
from logitserve_training.plots import Panel, figure

SGD: Final = "SGD"
ADAM: Final = "Adam"
RATES: Final = {SGD: 0.1, ADAM: 3e-3}
DECOUPLED: Final = "decoupled"
PENALTY: Final = "L2 penalty"
WAYS: Final = (DECOUPLED, PENALTY)
STRENGTHS: Final = (1e-2, 1.0)
_COMPARED: Final = 1e-2
"""The decay strength at which both ways are compared."""

LONE_RATE: Final = 0.003
LONE_STRENGTH: Final = 0.5
LONE_STEPS: Final = 1000
NOISES: Final = (0.01, 0.1, 1.0, 10.0)
"""Standard deviations of the gradients of four independent weights."""
PRODUCTS: Final = (0.1, 0.9, 1.5, 2.1)  # 2αλ


def measure(dataset: Dataset, effort: Effort) -> Section:
    """Measure independent weights with and without noise, and train the network in each way."""
    both = list(product(RATES, WAYS))
    lone = {pair: lone_weights(*pair) for pair in both}
    settings = [*product(RATES, (DECOUPLED,), (0.0,)), *product(RATES, WAYS, STRENGTHS)]
    runs = {setting: _trained(dataset, effort, *setting) for setting in settings}

    def difference(optimizer: str) -> float:
        one, other = (_flat(runs[optimizer, way, _COMPARED])[0] for way in WAYS)
        return float(np.abs(one - other).max())

    return Section(
        {
            "lone": [[", ".join(pair), *path[-1]] for pair, path in lone.items()],
            "decay": [
                [", ".join(pair), *(runs[*pair, strength].accuracy for strength in STRENGTHS)]
                for pair in both
            ],
            "alone": {"steps": LONE_STEPS, "rate": LONE_RATE, "strength": LONE_STRENGTH},
            "left": shrunk(LONE_RATE * LONE_STRENGTH, LONE_STEPS)[-1],
            "left_twice": shrunk(2 * LONE_RATE * LONE_STRENGTH, LONE_STEPS)[-1],
            "undecayed": {name: runs[name, DECOUPLED, 0.0].accuracy for name in RATES},
            "compared": _COMPARED,
            "sgd_difference": difference(SGD),
            "adam_difference": difference(ADAM),
        },
        {
            "stability": figure(
                "A weight of 1 under w ← w (1 − 2αλ)",
                Panel(
                    "", "step", "weight",
                    {f"2αλ = {p:g}": (np.arange(16), shrunk(p, 15)) for p in PRODUCTS},
                    y_range=(-4.5, 4.5), legend="lower left",
                ),
            ),
            "weight_decay": figure(
                "Weight decay under Adam: decoupled, and as an L2 penalty",
                *(
                    Panel(
                        f"{way}: gradients with mean 0", "step", "weight, mean of 256",
                        {
                            f"noise {noise:g}": (np.arange(LONE_STEPS + 1), left)
                            for noise, left in zip(NOISES, lone[ADAM, way].T, strict=True)
                        },
                        y_range=(-0.08, 1.05), legend="best" if way == PENALTY else "",
                    )
                    for way in WAYS
                ),
            ),
        },
    )  # fmt: skip


def lone_weights(optimizer: str, way: str) -> Floats:
    """Return means of 256 weights from 1, with pure-noise gradients: `[steps + 1, noises]`."""
    noise = np.random.default_rng(0).normal(0, NOISES, (LONE_STEPS, 256, len(NOISES)))
    penalty, decay = (LONE_STRENGTH if way == one else 0.0 for one in (PENALTY, DECOUPLED))
    follow = descend if optimizer == SGD else adam
    path = follow(
        lambda step, weights: noise[step] + penalty * weights,
        np.ones_like(noise[0]), LONE_RATE, LONE_STEPS, decay=decay,
    )  # fmt: skip
    return np.asarray(path.mean(axis=1))


def shrunk(share: float, steps: int) -> Floats:
    """Return a weight of 1 that each step reduces by a share, 2αλ or αλ: `[steps + 1]`."""
    return descend(lambda _, weight: 0 * weight, np.array(1.0), 1.0, steps, decay=share)


def _trained(
    dataset: Dataset, effort: Effort, optimizer: str, way: str, strength: float
) -> loop.Runs:
    make = keras.optimizers.SGD if optimizer == SGD else keras.optimizers.Adam

    def rule() -> Any:
        return make(RATES[optimizer], weight_decay=strength if way == DECOUPLED else None)

    return loop.repeat(dataset, effort, rule, penalty=strength if way == PENALTY else 0.0)


def _flat(runs: loop.Runs) -> Floats:
    """Return the weights of each seed's network, `[seeds, weights]`."""
    return np.array(
        [np.concatenate([w.numpy().ravel() for w in loop.matrices(n)]) for n in runs.networks]
    )
