from pathlib import Path

import numpy as np
import pytest

from logitserve.inference.card import Fit, Novelty
from logitserve.inference.intervals import wilson
from logitserve.inference.predictor import Predictor
from logitserve_training import corruptions, disturb, robustness
from logitserve_training.datasets.dataset import LabeledImages
from logitserve_training.drawings import draw
from tests import tiny_models


def drawn(count: int) -> LabeledImages:
    images = np.stack([np.asarray(draw(seed % 10, seed=seed))[..., :1] for seed in range(count)])
    return LabeledImages(images, np.arange(count) % 10)


@pytest.mark.parametrize("fit", [Fit.DIGIT, Fit.STRETCH])
def test_each_row_is_what_the_model_says_of_its_pictures(tmp_path: Path, fit: Fit) -> None:
    as_sent = fit is Fit.DIGIT  # or the golden, which is noise, would be cut out
    spec = tiny_models.SPEC.model_copy(update={"fit": fit, "as_sent": as_sent})
    tiny_models.publish(tmp_path, spec=spec)
    predictor = Predictor.load(tmp_path / "tiny/1/model.onnx")
    data = drawn(12)
    rows = robustness.measure(predictor, data, count=10)
    kinds = ["clean", *corruptions.KINDS, *(disturb.FAMILIES if fit is Fit.DIGIT else ())]
    assert [row.kind for row in rows] == kinds
    if fit is Fit.STRETCH:  # nothing is cut out
        for row in rows[1:4]:
            images = corruptions.corrupted(row.kind, data.images[:10])
            right = predictor.predict(images).argmax == data.classes[:10]
            assert row.accuracy == np.mean(right)
            assert (row.low, row.high) == wilson(int(right.sum()), 10)
    groups = {name: count for name, *_, count in robustness.means(rows)}
    assert groups["MNIST-C"] == 15
    assert groups["not similar to a training family"] >= 6
    assert groups["not similar to a training family"] + groups["similar to a training family"] == 20


def test_a_model_says_itself_what_it_does_not_know(tmp_path: Path) -> None:
    limit = Novelty(threshold=0.0, known_share=0.99, pictures=9)
    matrix = tiny_models.publish(tmp_path, novelty=limit)
    predictor = Predictor.load(tmp_path / "tiny/1/model.onnx")
    images = drawn(20).images
    output = tiny_models.linear_logits(images, matrix)
    assert output.shape == (20, 11)
    said = predictor.predict(images)
    assert said.logits.shape == said.probabilities.shape == (20, 10)
    assert said.novelty is not None
    np.testing.assert_allclose(said.novelty, output[:, -1], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(said.known, said.novelty <= 0)
    halves = [said[:5], said[5:]]
    again = type(said).concatenated(halves)
    np.testing.assert_array_equal(again.novelty, said.novelty)
    np.testing.assert_array_equal(again.known, said.known)
