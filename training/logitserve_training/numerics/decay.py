"""Weight decay decoupled from the gradient and as an L2 penalty, under SGD and under Adam.

Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization" (arXiv:1711.05101).
"""

from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from logitserve_training.backend import keras, tf
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.numerics import loop
from logitserve_training.numerics.roundoff import Numbers

Floats = npt.NDArray[np.float64]

SGD: Final = "SGD"
ADAM: Final = "Adam"
RATES: Final = {SGD: 0.1, ADAM: 3e-3}
DECOUPLED: Final = "decoupled"
PENALTY: Final = "L2 penalty"
WAYS: Final = (DECOUPLED, PENALTY)
COMPARED: Final = 1e-2
"""The strength at which the weights of both ways are compared."""

NOISES: Final = (0.01, 0.1, 1.0, 10.0)
"""Standard deviations of the gradients of four lone weights."""
LONE_STEPS: Final = 1000
_REPLICAS: Final = 256
_LONE_STRENGTH: Final = 0.5
_LONE_RATES: Final = {SGD: 0.003, ADAM: 0.003}


@dataclass(frozen=True, slots=True)
class Run:
    """The lecture's network after training."""

    optimizer: str
    way: str
    strength: float
    accuracy: float
    """On the validation part."""
    norm: float
    """Of all weights but the biases."""


@dataclass(frozen=True, slots=True)
class Decay:
    """Lone weights under noise, and whole networks."""

    lone: dict[tuple[str, str], Floats]
    """By optimizer and way: `[steps + 1, noises]`."""
    runs: list[Run]
    sgd_difference: float
    """The largest difference of a weight between the two ways under SGD, at `COMPARED`."""
    adam_difference: float
    epochs: int
    pictures: int

    @property
    def numbers(self) -> Numbers:
        """For the page."""
        return {
            "lone_strength": _LONE_STRENGTH,
            "lone_steps": LONE_STEPS,
            "lone_rate": _LONE_RATES[ADAM],
            "lone_expected": (1 - _LONE_RATES[ADAM] * _LONE_STRENGTH) ** LONE_STEPS,
            "noises": list(NOISES),
            "lone": [
                {"optimizer": optimizer, "way": way, "left": path[-1].tolist()}
                for (optimizer, way), path in self.lone.items()
            ],
            "compared": COMPARED,
            "strengths": [run.strength for run in self.of(SGD, DECOUPLED)],
            "undecayed": {run.optimizer: run.accuracy for run in self.runs if run.strength == 0},
            "runs": [
                {
                    "optimizer": optimizer,
                    "way": way,
                    "accuracies": [run.accuracy for run in self.of(optimizer, way)],
                    "norms": [run.norm for run in self.of(optimizer, way)],
                }
                for optimizer, way in product(RATES, WAYS)
            ],
            "rates": RATES,
            "sgd_difference": self.sgd_difference,
            "adam_difference": self.adam_difference,
            "epochs": self.epochs,
            "pictures": self.pictures,
        }

    def of(self, optimizer: str, way: str) -> list[Run]:
        """The runs of one optimizer and way, by strength."""
        return [
            run
            for run in self.runs
            if (run.optimizer, run.way, run.strength > 0) == (optimizer, way, True)
        ]


def measure(dataset: Dataset, *, epochs: int, seed: int, strengths: tuple[float, ...]) -> Decay:
    """Train the lecture's network in each way, and let lone weights decay under noise.

    `strengths` has `COMPARED` in it.
    """
    runs, weights = [], {}
    plain = [(optimizer, DECOUPLED, 0.0) for optimizer in RATES]
    for optimizer, way, strength in [*plain, *product(RATES, WAYS, strengths)]:
        network = loop.fresh(dataset.train, seed=seed)
        curve = loop.train(
            network,
            dataset,
            optimizer=_optimizer(optimizer, network, strength if way == DECOUPLED else 0.0),
            epochs=epochs,
            seed=seed,
            penalty=strength if way == PENALTY else 0.0,
        )
        flat = np.concatenate([weight.numpy().ravel() for weight in loop.matrices(network)])
        norm = float(np.linalg.norm(flat.astype(np.float64)))
        runs.append(Run(optimizer, way, strength, curve.accuracies[-1], norm))
        weights[optimizer, way, strength] = flat

    def difference(optimizer: str) -> float:
        one, other = (weights[optimizer, way, COMPARED] for way in WAYS)
        return float(np.abs(one - other).max())

    return Decay(
        lone={(name, way): lone_weights(name, way, seed) for name in RATES for way in WAYS},
        runs=runs,
        sgd_difference=difference(SGD),
        adam_difference=difference(ADAM),
        epochs=epochs,
        pictures=len(dataset.train),
    )


def lone_weights(optimizer_name: str, way: str, seed: int) -> Floats:
    """Weights that start at 1 and whose loss has no slope, only noise: all they do is decay.

    Returns:
        `[steps + 1, noises]`, the mean of 256 weights each.
    """
    shape = (_REPLICAS, len(NOISES))
    weight = keras.Variable(np.ones(shape), dtype="float32")
    strength = _LONE_STRENGTH
    optimizer = _make(
        optimizer_name, _LONE_RATES[optimizer_name], strength if way == DECOUPLED else 0.0
    )
    optimizer.build([weight])
    noise = np.random.default_rng(seed).normal(0, NOISES, (LONE_STEPS, *shape))
    penalty = strength if way == PENALTY else 0.0

    def descend(gradients: Any) -> Any:
        means = tf.TensorArray(tf.float32, size=LONE_STEPS)
        for step in tf.range(LONE_STEPS):
            optimizer.apply([gradients[step] + penalty * weight.value], [weight])
            means = means.write(step, tf.reduce_mean(weight.value, axis=0))
        return means.stack()

    gradients = tf.constant(noise, tf.float32)
    compiled = tf.function(descend).get_concrete_function(gradients)
    path: Floats = compiled(gradients).numpy().astype(np.float64)
    return np.concatenate([np.ones((1, len(NOISES))), path])


def _optimizer(name: str, network: "keras.Model", decay: float) -> Any:
    optimizer = _make(name, RATES[name], decay)
    biases = [weight for weight in network.trainable_variables if len(weight.shape) == 1]
    optimizer.exclude_from_weight_decay(var_list=biases)
    return optimizer


def _make(name: str, rate: float, decay: float) -> Any:
    make = keras.optimizers.SGD if name == SGD else keras.optimizers.Adam
    return make(rate, weight_decay=decay or None)
