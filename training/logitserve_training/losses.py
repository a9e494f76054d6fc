"""Losses from logits, with class weights for imbalanced labels.

The head's function is fused into the loss, which avoids the precision loss of log(exp(…)).
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from logitserve.inference.card import Head
from logitserve_training.backend import keras, tf
from logitserve_training.datasets.dataset import Classes

Weights = npt.NDArray[np.float32]
"""`[logits]`. Softmax: weight of each class. Sigmoid, binary: weight of a label's positives."""

LARGEST: Final = 10.0
"""Maximum weight; otherwise a few pictures would dominate the training."""


def fused(head: Head, weights: Weights | None = None) -> Any:
    """Return the loss of a head from logits; without `weights` all pictures have weight 1."""
    if head is Head.SOFTMAX:
        each = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
        if weights is None:
            return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

        def softmax_loss(classes: Any, logits: Any) -> Any:
            classes = tf.reshape(classes, [-1])  # Keras passes [n, 1]
            return each(classes, logits) * tf.gather(weights, tf.cast(classes, tf.int64))

        return softmax_loss
    if weights is None:
        return keras.losses.BinaryCrossentropy(from_logits=True)

    def sigmoid_loss(outcomes: Any, logits: Any) -> Any:
        # not tf.nn.weighted_cross_entropy_with_logits: at 0, where networks may start, its
        # gradient is one-sided (TensorFlow 2.21)
        yes, no = tf.math.softplus(-logits), tf.math.softplus(logits)
        return tf.reduce_mean(weights * outcomes * yes + (1 - outcomes) * no, axis=-1)

    return sigmoid_loss


def with_negatives(head: Head, labels: int) -> Any:
    """The loss of a softmax or binary head whose last output is the log-odds of no label.

    The target of a picture of no label is the number of labels. It is the cross-entropy of one
    class more: of whether there is a label, and where there is one of which.
    """

    def loss(targets: Any, output: Any) -> Any:
        logits, novelty = output[:, :-1], output[:, -1]
        targets = tf.cast(tf.reshape(targets, [-1]), tf.int64)
        strange = tf.cast(targets == labels, output.dtype)
        named = tf.minimum(targets, labels - 1)
        if head is Head.SOFTMAX:
            of_label = tf.nn.sparse_softmax_cross_entropy_with_logits(named, logits)
        else:
            outcomes = tf.cast(named, output.dtype)
            of_label = tf.nn.sigmoid_cross_entropy_with_logits(outcomes, logits[:, 0])
        of_any = tf.nn.sigmoid_cross_entropy_with_logits(strange, novelty)
        return (1 - strange) * of_label + of_any

    return loss


def accuracy_with_negatives(head: Head, labels: int) -> Any:
    """The share that is right: the label, or that there is none."""

    def accuracy(targets: Any, output: Any) -> Any:
        targets = tf.cast(tf.reshape(targets, [-1]), tf.int64)
        logits = output[:, :-1]
        said = tf.argmax(logits, axis=1) if head is Head.SOFTMAX else logits[:, 0] > 0
        right = tf.cast(said, tf.int64) == targets
        return tf.cast(tf.where(targets == labels, output[:, -1] > 0, right), tf.float32)

    return accuracy


def balancing(head: Head, classes: Classes, logits: int) -> Weights:
    """Return weights that balance the classes, or positives and negatives of each label.

    They are 1 if these are balanced, or if a label has no positives or no negatives.
    """
    if head is Head.SOFTMAX:
        counts = np.bincount(classes, minlength=logits)
        weights = len(classes) / (logits * np.maximum(counts, 1))
    else:
        yes = classes.reshape(-1, logits).sum(axis=0)
        no = len(classes) - yes
        weights = np.where((yes > 0) & (no > 0), no / np.maximum(yes, 1), 1.0)
    return weights.clip(1 / LARGEST, LARGEST).astype(np.float32)


def unweigh(network: "keras.Model", weights: Weights) -> None:
    """Remove the effect of the weights from the logits, so that they match the true frequencies.

    With weight w, the optimal softmax is proportional to p·w and the optimal odds are w times the
    true ones; either way the logit is too high by ln w (Menon et al. 2020, arXiv:2007.07314). So ln
    w is subtracted from the bias of the last layer.
    """
    bias = network.layers[-1].bias
    bias.assign(bias - np.log(weights))
