from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, logit
from scipy.special import softmax as scipy_softmax

from logitserve.inference import heads
from logitserve.inference.card import Head, LabelScaling, ModelCard
from logitserve.inference.errors import NonFiniteLogitsError
from tests.tiny_models import SPEC, card_for, weights

FLOAT32_MAX = float(np.finfo(np.float32).max)


def finite_logits(columns: int | None = None) -> st.SearchStrategy[npt.NDArray[np.float32]]:
    width = st.integers(2, 12) if columns is None else st.just(columns)
    return hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), width),
        elements=st.floats(-FLOAT32_MAX, FLOAT32_MAX, width=32),
    )


def moderate_logits() -> st.SearchStrategy[npt.NDArray[np.float64]]:
    return hnp.arrays(np.float64, (3, 7), elements=st.floats(-700, 700))


def apply(
    head: Head, logits: npt.NDArray[np.float32], temperature: float = 1.0
) -> npt.NDArray[np.float64]:
    return heads.probabilities(head, heads.scaled(logits, temperature))


def test_frozen_values() -> None:
    logits = np.array([[5, 2, -1, 3]], np.float32)
    assert apply(Head.SOFTMAX, logits)[0].round(3).tolist() == [0.842, 0.042, 0.002, 0.114]
    assert apply(Head.SIGMOID, logits)[0].round(3).tolist() == [0.993, 0.881, 0.269, 0.953]
    assert apply(Head.BINARY, logits[:, :1])[0].round(3).tolist() == [0.007, 0.993]


@given(finite_logits())
def test_softmax_of_any_finite_logits_sums_to_one(logits: npt.NDArray[np.float32]) -> None:
    found = apply(Head.SOFTMAX, logits)
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


@given(finite_logits(), st.floats(0.05, 20))
def test_agrees_with_scipy(logits: npt.NDArray[np.float32], temperature: float) -> None:
    reference = logits.astype(np.float64) / temperature
    np.testing.assert_allclose(
        apply(Head.SOFTMAX, logits, temperature), scipy_softmax(reference, axis=1), atol=1e-12
    )
    np.testing.assert_allclose(
        apply(Head.SIGMOID, logits, temperature), expit(reference), atol=1e-12
    )


@given(moderate_logits(), st.floats(-1e6, 1e6))
def test_softmax_does_not_feel_a_shift(logits: npt.NDArray[np.float64], shift: float) -> None:
    np.testing.assert_allclose(heads.softmax(logits + shift), heads.softmax(logits), atol=1e-8)


@given(finite_logits(columns=2))
def test_softmax_of_two_is_the_sigmoid_of_the_difference(logits: npt.NDArray[np.float32]) -> None:
    scaled = heads.scaled(logits, 1.0)
    np.testing.assert_allclose(
        heads.softmax(scaled)[:, 1], heads.sigmoid(scaled[:, 1] - scaled[:, 0]), atol=1e-12
    )


@given(finite_logits(columns=1))
def test_binary_is_no_and_yes(logits: npt.NDArray[np.float32]) -> None:
    found = apply(Head.BINARY, logits)
    assert found.shape == (len(logits), 2)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_array_equal(found[:, 1], heads.sigmoid(logits[:, 0].astype(np.float64)))


def test_binary_keeps_the_digits_of_the_small_side() -> None:
    assert apply(Head.BINARY, np.array([[40]], np.float32))[0, 0] == pytest.approx(np.exp(-40.0))


@given(finite_logits(), st.floats(0.05, 20))
def test_temperature_never_changes_the_argmax(
    logits: npt.NDArray[np.float32], temperature: float
) -> None:
    cold = heads.argmax(Head.SOFTMAX, heads.scaled(logits, 1.0))
    warm = heads.argmax(Head.SOFTMAX, heads.scaled(logits, temperature))
    picked = np.take_along_axis(logits, np.stack([cold, warm], axis=1), axis=1)
    np.testing.assert_array_equal(picked[:, 0], picked[:, 1])


@given(finite_logits())
def test_argmax_is_the_most_probable(logits: npt.NDArray[np.float32]) -> None:
    for head, columns in ((Head.SOFTMAX, None), (Head.SIGMOID, None), (Head.BINARY, 1)):
        scaled = heads.scaled(logits[:, :columns], 1.0)
        found = heads.probabilities(head, scaled)
        chosen = found[np.arange(len(found)), heads.argmax(head, scaled)]
        np.testing.assert_array_equal(chosen, found.max(axis=1))


def test_temperature_divides() -> None:
    logits = np.array([[2.0, 0.0]], np.float32)
    assert apply(Head.SOFTMAX, logits, 2.0)[0, 0] == pytest.approx(1 / (1 + np.exp(-1.0)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_logit_is_an_error_that_names_its_row(bad: float) -> None:
    logits = np.zeros((4, 3), np.float32)
    logits[2, 1] = bad
    with pytest.raises(NonFiniteLogitsError, match="image 2 of the request") as caught:
        heads.scaled(logits, 1.0)
    assert caught.value.rows == (2,)


SCALING = (LabelScaling(scale=2.0, bias=-1.0), LabelScaling(scale=0.5, bias=0.25))


def of_two_labels(thresholds: tuple[float, float], **fields: Any) -> ModelCard:
    matrix, head = weights(SPEC, 2, seed=0), Head.SIGMOID
    return card_for(matrix, head=head, labels=("a", "b"), thresholds=thresholds, **fields)


def test_each_label_has_its_own_scaling() -> None:
    card = of_two_labels((0.5, 0.5), scaling=SCALING)
    found = heads.calibrated(np.array([[1, 1], [-3, 4]], np.float32), card)
    assert found.tolist() == [[1.0, 0.75], [-7.0, 2.25]]


@pytest.mark.parametrize("fields", [{"scaling": SCALING}, {"temperature": 1.7}, {}])
@given(logits=hnp.arrays(np.float32, (4, 2), elements=st.floats(-20, 20, width=32)))
def test_the_same_labels_hold_calibrated_or_not(
    fields: dict[str, Any], logits: npt.NDArray[np.float32]
) -> None:
    card = of_two_labels((0.3, 0.8), **fields)
    calibrated = heads.sigmoid(heads.calibrated(logits, card))
    raw = heads.sigmoid(heads.scaled(logits, 1.0))
    margin = heads.calibrated(logits, card) - logit(np.array(card.thresholds))
    clear = np.abs(margin) > 1e-9
    holds = calibrated >= heads.thresholds(card)
    holds_raw = raw >= heads.thresholds(card, of_calibrated=False)
    np.testing.assert_array_equal(holds[clear], holds_raw[clear])


def test_thresholds_of_0_and_1_stay_what_they_are() -> None:
    card = of_two_labels((0.0, 1.0), scaling=SCALING)
    assert heads.thresholds(card, of_calibrated=False).tolist() == [0.0, 1.0]


def test_a_non_finite_error_names_the_images_of_a_request() -> None:
    assert "for this image;" in str(NonFiniteLogitsError())
    assert "image 0, 3 of the request (counted from 0);" in str(NonFiniteLogitsError([0, 3]))
    assert "image 0, 1, 2, 3, 4, … of" in str(NonFiniteLogitsError(range(9)))
