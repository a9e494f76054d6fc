"""Complete a card from held-out pictures: calibration, thresholds, prediction sets, novelty.

All use the same validation pictures: the one or two parameters per logit fitted first hardly
overfit.
"""

from typing import Any, Final

import numpy as np

from logitserve.inference import conformal, heads, ink
from logitserve.inference.card import Calibration, Energy, Fit, Head, ModelCard, Novelty, Scores
from logitserve.inference.predictor import Predictions
from logitserve_training.datasets.dataset import Images
from logitserve_training.evaluate import Evaluation
from logitserve_training.statistics import thresholds
from logitserve_training.statistics.calibration import (
    Calibrator,
    Floats,
    Logits,
    Truth,
    energies,
)

KNOWN_SHARE: Final = 0.99
"""Share of held-out pictures that must be known. At the 0.95 common in the literature, one in
twenty well-classified pictures would be called unknown."""


def calibrate(
    card: ModelCard,
    logits: Logits,
    truth: Truth,
    images: Images,
    *,
    novelty: Floats | None = None,
) -> ModelCard:
    """Complete a card from held-out pictures; an existing calibration is replaced.

    Args:
        card: card of the model.
        logits: raw, of pictures not used to fit the weights.
        truth: true classes of the same pictures.
        images: prepared training pictures.
        novelty: `[n]`, of the held-out pictures, if the network has it.

    Returns:
        the card with `temperature` or `scaling`, `calibration`, `thresholds` for a sigmoid head,
        `conformal` if the head has it, and `novelty` or `energy` and `ink`.

    Raises:
        CalibrationError: the fit failed.
    """
    chosen = Calibrator.fitted(card.head, logits, truth)
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
        "novelty": None,
        "ink": None,
    }
    if card.head is Head.SIGMOID:
        changes["thresholds"] = thresholds.best(probabilities)
    else:
        true_scores = conformal.scores(probabilities)[np.arange(len(truth)), truth]
        changes["conformal"] = conformal.calibrate(true_scores, truth, len(card.labels))
    if novelty is not None:
        even = {
            "threshold": 0.0,
            "known_share": float(np.mean(novelty <= 0)),
            "pictures": len(novelty),
        }
        changes["novelty"] = Novelty(**_limit(novelty) or even)  # with few pictures: even odds
    elif card.head is Head.SOFTMAX:
        found = energies(heads.scaled(logits, chosen.temperature), chosen.temperature)
        limit = _limit(found)
        changes["energy"] = None if limit is None else Energy(**limit)
    is_cut_out = card.input.fit is Fit.DIGIT and not card.input.as_sent
    is_told = card.head is Head.BINARY or changes["novelty"] is not None
    if changes["energy"] is not None or (is_cut_out and is_told):
        changes["ink"] = ink.ranges(images, card.input)
    return ModelCard.model_validate(dict(card) | changes)


def scores(head: Head, logits: Logits, calibrator: Calibrator, truth: Truth) -> Scores:
    """Return the errors of the probabilities after this calibration."""
    calibrated = calibrator(logits)
    probabilities = heads.probabilities(head, calibrated)
    said = Predictions(logits, probabilities, heads.argmax(head, calibrated))
    metrics = Evaluation(head, said, truth, truth if head is Head.SIGMOID else None).metrics
    return Scores(**{name: metrics[name] for name in Scores.model_fields})


def _limit(novelties: Floats) -> dict[str, Any] | None:
    """Return the limit, or None if there are too few pictures for a 99 % quantile."""
    threshold = conformal.quantile(novelties, KNOWN_SHARE)
    if threshold is None:
        return None
    known_share = float(np.mean(novelties <= threshold))
    return {"threshold": threshold, "known_share": known_share, "pictures": len(novelties)}
