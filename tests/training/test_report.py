from datetime import UTC, datetime

import numpy as np
import pytest

from logitserve.inference import heads
from logitserve.inference.card import Fit, Golden, Head, InputSpec, ModelCard
from logitserve.inference.predictor import Predictions
from logitserve_training import figures, report
from logitserve_training.epochs import Epoch
from logitserve_training.evaluate import Evaluation

CARD = ModelCard(
    name="animals",
    version="1",
    description="",
    head=Head.SOFTMAX,
    labels=("cat", "dog", "bird"),
    input=InputSpec(height=6, width=9, channels=3, fit=Fit.PAD),
    goldens=(Golden(image=b"", logits=(0.0, 0.0, 0.0)),),
    created=datetime(2026, 1, 1, tzinfo=UTC),
    license="Apache-2.0",
)


def evaluation(logits: list[list[float]], classes: list[int]) -> Evaluation:
    array = np.array(logits)
    predictions = Predictions(
        logits=array.astype(np.float32),
        probabilities=heads.softmax(array),
        argmax=heads.argmax(Head.SOFTMAX, array),
    )
    return Evaluation(Head.SOFTMAX, predictions, np.array(classes))


def epoch(loss: float, accuracy: float) -> Epoch:
    return Epoch(
        loss=loss,
        accuracy=accuracy,
        validation_loss=2 * loss,
        validation_accuracy=accuracy,
        seconds=1.0,
    )


def test_the_worst_mistakes_come_first_and_the_right_answers_not_at_all() -> None:
    images = np.zeros((4, 6, 9, 3), dtype=np.uint8)
    figure = report.worst_mistakes(
        CARD, evaluation([[9, 0, 0], [3, 0, 0], [0, 0, 9], [0, 4, 0]], [0, 1, 0, 2]), images
    )
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == [
        "cat, not bird\n(predicted 100.0%)",
        "bird, not dog\n(predicted 96.5%)",
        "dog, not cat\n(predicted 90.9%)",
    ]
    assert figure.get_suptitle() == "animals: worst of 3 errors on 4 test pictures"


def test_a_page_without_mistakes_has_no_pictures() -> None:
    images = np.zeros((1, 6, 9, 3), dtype=np.uint8)
    figure = report.worst_mistakes(CARD, evaluation([[9, 0, 0]], [0]), images)
    assert not any(axes.get_images() for axes in figure.axes)


def test_the_matrix_has_the_counts_and_the_labels() -> None:
    found = evaluation([[9, 0, 0], [9, 0, 0], [0, 1, 0], [1, 0, 0]], [0, 0, 1, 1]).confusion
    assert found is not None
    figure = report.confusion_matrix(CARD, found)
    (axes,) = figure.axes
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {
        ((0, 0), "2"),
        ((0, 1), "1"),
        ((1, 1), "1"),
    }
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["cat", "dog", "bird"]
    assert figure.get_suptitle() == "animals: 75.00% accuracy on 4 test pictures"


@pytest.mark.parametrize(
    "epochs", [[epoch(0.7, 0.6), epoch(0.1, 0.9)], [epoch(0.7, 0.6)], [epoch(0.7, 1.0)]]
)
def test_the_curves_hold_every_epoch_even_one_without_mistakes(epochs: list[Epoch]) -> None:
    figure = figures.learning_curves(CARD.name, epochs)
    figure.draw_without_rendering()
    for axes in figure.axes:
        assert [len(np.asarray(line.get_xdata())) for line in axes.lines] == [len(epochs)] * 2
