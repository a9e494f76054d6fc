"""What held-out pictures add to a card: calibration, thresholds, sets, and what is known.

All are found on the same pictures, the validation part: the one or two numbers a logit that are
fitted first hardly follow any of them.
"""

from typing import Any, Final

import numpy as np

from logitserve.inference import conformal, heads, ink
from logitserve.inference.card import Calibration, Energy, Fit, Head, ModelCard, Scores
from logitserve.inference.predictor import Predictions
from logitserve_training.datasets.dataset import Groups, Images
from logitserve_training.evaluate import Evaluation
from logitserve_training.statistics import thresholds
from logitserve_training.statistics.calibration import Calibrator, Logits, Truth, energies

KNOWN_SHARE: Final = 0.99
"""Of pictures like the held-out ones. At 0.95, as the literature likes to report it, one in twenty
pictures that the network reads well would be called unknown."""


def calibrate(
    card: ModelCard, logits: Logits, truth: Truth, images: Images, groups: Groups | None = None
) -> ModelCard:
    """Complete a card by what held-out pictures say.

    Args:
        card: of the model; what it says of calibration is replaced.
        logits: raw, `[n, k]`, of pictures that the weights were not fitted to.
        truth: `[n]`, or `[n, k]` for a sigmoid model.
        images: prepared pictures of the training, uint8 `[m, height, width, channels]`.
        groups: `[n]`, as `LabeledImages` has them.

    Returns:
        the card with `temperature` or `scaling` where that helps, `calibration`,
        `thresholds` where it is a sigmoid head, and for the heads that have them `conformal`,
        `energy` and `ink`.

    Raises:
        CalibrationError: the fit has failed.
    """
    chosen = Calibrator.fitted(card.head, logits, truth, groups)
    probabilities = heads.probabilities(card.head, chosen(logits))
    changes: dict[str, Any] = {
        "temperature": chosen.temperature,
        "scaling": chosen.scaling,
        "calibration": Calibration(
            pictures=len(logits),
            before=scores(card.head, logits, Calibrator(), truth),
            after=scores(card.head, logits, chosen, truth),
        ),
        "conformal": None,
        "energy": None,
        "ink": None,
    }
    if card.head is Head.SIGMOID:
        changes["thresholds"] = thresholds.best(probabilities)
    else:
        true_scores = conformal.scores(probabilities)[np.arange(len(truth)), truth]
        changes["conformal"] = conformal.calibrate(true_scores, truth, len(card.labels))
    if card.head is Head.SOFTMAX:
        changes["energy"] = _energy(logits, chosen.temperature)
    if changes["energy"] is not None or (card.head is Head.BINARY and card.input.fit is Fit.DIGIT):
        changes["ink"] = ink.ranges(images, card.input)
    return ModelCard.model_validate(dict(card) | changes)


def scores(head: Head, logits: Logits, calibrator: Calibrator, truth: Truth) -> Scores:
    """How right the probabilities of these logits are, calibrated in this way."""
    calibrated = calibrator(logits)
    probabilities = heads.probabilities(head, calibrated)
    said = Predictions(logits, probabilities, heads.argmax(head, calibrated))
    metrics = Evaluation(head, said, truth, truth if head is Head.SIGMOID else None).metrics
    return Scores(**{name: metrics[name] for name in Scores.model_fields})


def _energy(logits: Logits, temperature: float) -> Energy | None:
    """None where the pictures are too few to say what 99 of 100 are below."""
    found = energies(heads.scaled(logits, temperature), temperature)
    threshold = conformal.quantile(found, KNOWN_SHARE)
    if threshold is None:
        return None
    known_share = float(np.mean(found <= threshold))
    return Energy(threshold=threshold, known_share=known_share, pictures=len(found))
