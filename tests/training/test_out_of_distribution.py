from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from logitserve.inference.card import Energy
from logitserve.inference.predictor import Predictor
from logitserve_training import out_of_distribution
from logitserve_training.drawings import draw
from logitserve_training.evaluate import predict_all
from logitserve_training.out_of_distribution import auroc
from logitserve_training.recipes import DIGIT_INPUT
from tests import tiny_models


@pytest.mark.parametrize("kind", out_of_distribution.KINDS)
def test_pictures_are_the_same_each_time_and_each_another(kind: str) -> None:
    one, other = (out_of_distribution.pictures(kind, DIGIT_INPUT, count=4).images for _ in range(2))
    assert one.shape == (4, 28, 28, 1)
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, other)
    generator = np.random.default_rng(0)
    assert len({out_of_distribution.KINDS[kind](generator).tobytes() for _ in range(4)}) == 4


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=20),
    st.lists(st.integers(0, 9), min_size=1, max_size=20),
)
def test_auroc_is_that_of_scikit_learn_also_with_ties(
    positive: list[int], negative: list[int]
) -> None:
    truth = [1] * len(positive) + [0] * len(negative)
    found = auroc(np.array(positive, float), np.array(negative, float))
    assert found == pytest.approx(roc_auc_score(truth, positive + negative))


def test_what_is_measured_is_what_the_threshold_says(tmp_path: Path) -> None:
    energy = Energy(threshold=-4.0, known_share=0.99, pictures=9)
    tiny_models.publish(tmp_path, energy=energy)
    predictor = Predictor.load(tmp_path / "tiny/1/model.onnx")
    digits = np.stack([np.asarray(draw(digit, seed=3))[..., :1] for digit in range(10)])
    found = out_of_distribution.measure(predictor, predict_all(predictor, digits), count=6)
    assert found.unknown_in_distribution == np.mean(found.in_distribution > -4.0)
    for kind in out_of_distribution.KINDS:
        assert found.novelties[kind].shape == (6,)
        assert found.unknown[kind] == np.mean(found.novelties[kind] > -4.0)
        assert found.auroc[kind] == auroc(found.novelties[kind], found.in_distribution)
