"""Multilabel classification: one network with several sigmoids, or one network per label."""

from functools import partial
from typing import Any, Final

import numpy as np

from logitserve.inference.heads import sigmoid
from logitserve_training.backend import keras, tf
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.numerics import loop
from logitserve_training.numerics.loop import Effort, Runs
from logitserve_training.numerics.section import Section

HOLDS: Final = {
    "odd": np.arange(10) % 2 == 1,
    "5 or more": np.arange(10) >= 5,
    "has a loop": np.isin(np.arange(10), (0, 6, 8, 9)),
}
"""Label → whether it holds for each digit."""
_SHOWN: Final = (0, 4, 7, 9)
_RATE: Final = 1e-3


def measure(dataset: Dataset, effort: Effort) -> Section:
    """Measure three yes-or-no questions about each digit."""
    table = np.stack(list(HOLDS.values()), axis=1).astype(np.int64)
    ways = {
        "one network": [_trained(loop.relabeled(dataset, table), effort)],
        "three networks": [
            _trained(loop.relabeled(dataset, column[:, None]), effort) for column in table.T
        ],
    }
    images, classes = tf.constant(dataset.validation.images), dataset.validation.classes
    first = [int(np.flatnonzero(classes == digit)[0]) for digit in _SHOWN]
    rows, stated = [], {}
    for name, runs in ways.items():
        logits = np.concatenate(
            [[network(images).numpy() for network in run.networks] for run in runs], axis=2
        )  # [seeds, n, labels]
        is_right = (logits > 0) == table[classes]
        rows.append(
            [
                name,
                *is_right.mean(axis=1).T.tolist(),
                is_right.all(axis=2).mean(axis=1).tolist(),
                sum(run.networks[0].count_params() for run in runs),
            ]
        )
        stated[name] = sigmoid(logits[0][first])
    of_one = zip(_SHOWN, stated["one network"], strict=True)
    shown = [[str(digit), *p, p.sum()] for digit, p in of_one]
    return Section({"multilabel": rows, "stated": shown}, {})


def _trained(dataset: Dataset, effort: Effort) -> Runs:
    return loop.repeat(
        dataset, effort, partial(keras.optimizers.Adam, _RATE),
        logits=dataset.train.classes.shape[1], loss=_binary, answers=lambda logits: logits > 0,
    )  # fmt: skip


def _binary(classes: Any, logits: Any) -> Any:
    each = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(classes, tf.float32), logits)
    return tf.reduce_sum(each, axis=1)
