"""Weighted losses against sums written out, and logits that speak of the true shares again."""

from typing import Any

import numpy as np
import pytest

from logitserve.inference import heads
from logitserve.inference.card import Head
from logitserve_training import losses
from logitserve_training.backend import keras, tf

LOGITS = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0], [-1.0, 1.0, 4.0]], np.float32)


def test_softmax_weighs_each_picture_by_its_class() -> None:
    classes, weights = np.array([0, 2, 1]), np.array([0.5, 2.0, 3.0], np.float32)
    each = -np.log(heads.softmax(LOGITS.astype(float))[np.arange(3), classes])
    found = np.mean(losses.fused(Head.SOFTMAX, weights)(classes[:, None], LOGITS))
    assert found == pytest.approx(np.mean(each * weights[classes]), rel=1e-6)
    ones = np.ones(3, np.float32)
    assert float(losses.fused(Head.SOFTMAX)(classes, LOGITS)) == pytest.approx(
        float(np.mean(losses.fused(Head.SOFTMAX, ones)(classes, LOGITS)))
    )


def test_sigmoid_weighs_the_yes_of_each_label() -> None:
    outcomes = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 1]], np.float32)
    weights = np.array([0.5, 2.0, 3.0], np.float32)
    p = heads.sigmoid(LOGITS.astype(float))
    each = -np.where(outcomes == 1, weights * np.log(p), np.log(1 - p))
    found = np.mean(losses.fused(Head.SIGMOID, weights)(outcomes, LOGITS))
    assert found == pytest.approx(each.mean(), rel=1e-6)
    ones = np.ones(3, np.float32)
    assert float(losses.fused(Head.SIGMOID)(outcomes, LOGITS)) == pytest.approx(
        float(np.mean(losses.fused(Head.SIGMOID, ones)(outcomes, LOGITS))), rel=1e-6
    )


def test_weights_make_the_classes_count_the_same() -> None:
    classes = np.repeat([0, 1, 2], [60, 30, 10])
    weights = losses.balancing(Head.SOFTMAX, classes, 3)
    np.testing.assert_allclose(np.bincount(classes) * weights, 100 / 3, rtol=1e-6)
    outcomes = np.stack([np.arange(100) < 20, np.arange(100) < 0, np.arange(100) < 1], axis=1)
    np.testing.assert_allclose(
        losses.balancing(Head.SIGMOID, outcomes.astype(np.int64), 3), [4, 1, losses.LARGEST]
    )
    assert losses.balancing(Head.BINARY, np.repeat([0, 1], [10, 30]), 1) == pytest.approx(1 / 3)


@pytest.mark.parametrize("head", [Head.SOFTMAX, Head.BINARY])
def test_after_the_weights_are_taken_out_the_probabilities_are_the_shares(head: Head) -> None:
    """Pictures that tell nothing: at the least weighted loss, each class seems as likely."""
    classes = np.repeat([0, 1], [90, 10])
    logits = 1 if head is Head.BINARY else 2
    weights = losses.balancing(head, classes, logits)
    image = keras.Input((1,))
    network: Any = keras.Model(image, keras.layers.Dense(logits)(image))
    pictures = np.zeros((100, 1), np.float32)
    targets = classes if head is Head.SOFTMAX else classes[:, None].astype(np.float32)

    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(losses.fused(head, weights)(targets, network(pictures)))
    slope = tape.gradient(loss, network.layers[-1].bias)
    np.testing.assert_allclose(slope, 0, atol=1e-6)  # at equal logits

    losses.unweigh(network, weights)
    found = heads.probabilities(head, np.asarray(network(pictures[:1]), np.float64))
    assert found[0, 1] == pytest.approx(0.1, rel=1e-5)


@pytest.mark.parametrize("head", [Head.SOFTMAX, Head.BINARY])
def test_negatives_are_one_class_more(head: Head) -> None:
    """With the logit u + ln Σ exp(z), u its log-odds; the logits of a binary head are 0 and z."""
    logits = LOGITS if head is Head.SOFTMAX else LOGITS[:, :1]
    novelty = np.array([[-2.0], [0.5], [1.0]], np.float32)
    labels = 3 if head is Head.SOFTMAX else 2
    classes = np.array([1, 0, labels])
    every = LOGITS if head is Head.SOFTMAX else np.c_[np.zeros(3), logits]
    more = np.c_[every, novelty + np.log(np.exp(every).sum(axis=1, keepdims=True))]
    each = -np.log(heads.softmax(more.astype(float))[np.arange(3), classes])
    targets = classes if head is Head.SOFTMAX else classes[:, None].astype(np.float32)
    output = np.c_[logits, novelty]
    found = losses.with_negatives(head, labels)(targets, output)
    np.testing.assert_allclose(found, each, rtol=1e-5)
    right = losses.accuracy_with_negatives(head, labels)(targets, tf.constant(output))
    expected = [float(every[0].argmax() == 1), float(every[1].argmax() == 0), 1.0]
    np.testing.assert_array_equal(right, expected)


def test_logits_learn_nothing_from_negatives() -> None:
    output = tf.Variable(np.c_[LOGITS, np.zeros(3, np.float32)])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(losses.with_negatives(Head.SOFTMAX, 3)(np.array([0, 3, 3]), output))
    gradient = tape.gradient(total, output).numpy()
    assert not gradient[1:, :-1].any()
    assert (gradient != 0)[0].all()
    assert gradient[1:, -1].all()
