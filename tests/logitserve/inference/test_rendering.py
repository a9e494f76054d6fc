"""What is rendered of predictions, against what is written by hand or in plain steps."""

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from logitserve.inference import conformal, heads
from logitserve.inference.card import ModelCard
from logitserve.inference.predictor import Predictions
from logitserve.inference.rendering import OutputOptions, render
from tests.tiny_models import SPEC, card_for, weights

LABELS = ("a", "b", "c", "d")


def card() -> ModelCard:
    return card_for(
        weights(SPEC, 4, seed=0),
        labels=LABELS,
        temperature=2.0,
        conformal=conformal.calibrate(np.linspace(-1, 0.9, 4000), np.arange(4000) // 3995, 4),
    )


def tied_logits() -> st.SearchStrategy[npt.NDArray[np.float32]]:
    """Few levels, so that there are ties, and some so far apart that probabilities are 0."""
    levels = st.sampled_from([-2000.0, -40.0, 0.0, 1.0, 2.0, 300.0])
    return hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.just(4)), elements=levels)


@given(logits=tied_logits(), top_k=st.integers(1, 6), calibrated=st.booleans())
def test_top_k_is_the_most_probable_and_a_tie_goes_to_the_lower_index(
    logits: npt.NDArray[np.float32], top_k: int, *, calibrated: bool
) -> None:
    predictions = Predictions.of(logits, card())
    every = render(card(), predictions, OutputOptions(calibrated=calibrated))
    some = render(card(), predictions, OutputOptions(top_k=top_k, calibrated=calibrated))
    for whole, part in zip(every, some, strict=True):
        assert list(whole["probabilities"]) == list(LABELS)
        highest = sorted(whole["probabilities"].items(), key=lambda item: -item[1])[:top_k]
        assert list(part["probabilities"].items()) == highest
        assert {**part, "probabilities": None} == {**whole, "probabilities": None}


@given(tied_logits())
def test_uncalibrated_is_the_head_of_the_raw_logits(logits: npt.NDArray[np.float32]) -> None:
    predictions = Predictions.of(logits, card())
    rendered = render(card(), predictions, OutputOptions(calibrated=False))
    expected = heads.softmax(logits.astype(np.float64))
    assert [list(row["probabilities"].values()) for row in rendered] == expected.tolist()


@given(tied_logits(), st.floats(0.5, 0.999))
def test_a_set_is_of_the_labels_whose_scores_are_low_enough(
    logits: npt.NDArray[np.float32], coverage: float
) -> None:
    made = card()
    assert made.conformal is not None
    limits = made.conformal.table[conformal.check(made, coverage)].tolist()
    rendered = render(made, Predictions.of(logits, made), OutputOptions(coverage=coverage))
    by_label = conformal.scores(heads.softmax(heads.scaled(logits, made.temperature)))
    for row, scores in zip(rendered, by_label.tolist(), strict=True):
        ranked = sorted(range(4), key=lambda index: scores[index])
        assert row["set"] == [LABELS[index] for index in ranked if scores[index] <= limits[index]]
