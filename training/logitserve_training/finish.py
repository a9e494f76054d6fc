"""Calibrate and evaluate an exported file, and write it with its report."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx

from logitserve.inference import features
from logitserve.inference.card import Head, ModelCard, Reference
from logitserve.inference.predictor import Predictions, Predictor
from logitserve.inference.preprocessing import Prepared
from logitserve.inference.repository import MODEL_FILE, REPORT_FOLDER
from logitserve_training import export, report, robustness
from logitserve_training.baseline import Comparison
from logitserve_training.calibrate import calibrate
from logitserve_training.datasets.dataset import Dataset, Groups, Images
from logitserve_training.epochs import Epoch
from logitserve_training.evaluate import Evaluation, at_a_time, evaluate, evaluated, predict_all
from logitserve_training.measure import measure
from logitserve_training.progress import Reporter
from logitserve_training.statistics.calibration import FEW, Floats, Logits, Truth


class HeldOut(NamedTuple):
    """Out-of-sample predictions: no picture was used to fit the weights that predicted it."""

    logits: Logits
    truth: Truth
    groups: Groups | None
    rows: npt.NDArray[np.int64]
    """Rows of these pictures among those that the final weights were fitted to, `[n]`."""


def finish(
    folder: Path,
    proto: onnx.ModelProto,
    card: ModelCard,
    *,
    dataset: Dataset,
    epochs: list[Epoch],
    reporter: Reporter,
    held_out: HeldOut | None = None,
) -> tuple[ModelCard, Evaluation]:
    """Calibrate on the validation part, evaluate on the test part, write file and report.

    Args:
        folder: folder of the new version.
        proto: the exported graph.
        card: the card before calibration and evaluation.
        dataset: data set of the training.
        epochs: epochs of the training.
        reporter: receives progress messages.
        held_out: used for calibration instead of the validation part.

    Returns:
        the complete card, and the evaluation on the test part.
    """
    file = folder / MODEL_FILE
    export.write(proto, card, file)
    validation = dataset.validation
    novelty = None
    if held_out is None:
        said = predict_all(Predictor.load(file), validation.images)
        of_validation = len(dataset.train) + np.arange(len(validation))
        held_out = HeldOut(said.logits, validation.classes, validation.groups, of_validation)
        novelty = None if card.novelty is None else np.asarray(said.novelty, np.float64)
    prepared = dataset.learned.images
    card = calibrate(card, held_out.logits, held_out.truth, prepared, novelty=novelty)
    reporter.line(_summary(card))

    export.write(proto, card, file)
    predictor = Predictor.load(file)
    normal = reference(predictor, held_out, prepared, novelty)
    card = card.model_copy(update={"reference": normal})
    reporter.line("measure: metrics with intervals, prediction sets, out-of-distribution, speed")
    if dataset.folds:
        evaluation = cross_validated(card, held_out, dataset)
    else:
        evaluation = evaluate(predictor, dataset.test)
    measured = measure(predictor, evaluation)

    rows: list[robustness.Row] = []
    if card.training is not None and card.training.settings.get("disturbed"):
        reporter.line("measure: disturbed pictures")
        rows = robustness.measure(predictor, dataset.test)

    figures = {"metrics": evaluation.metrics, "intervals": evaluation.intervals}
    card = card.model_copy(update=figures)
    comparison = None
    if card.training is not None and card.training.recipe == "folder":
        comparison = Comparison.of(card, evaluation, dataset.train.classes)
        card = comparison.judged(card, evaluation)
        for line in comparison.lines():
            reporter.line(line)
    export.write(proto, card, file)
    Predictor.load(file)  # verifies the published bytes
    report.write(
        folder / REPORT_FOLDER,
        card,
        epochs,
        evaluation,
        images=dataset.test.images,
        measured=measured,
        comparison=comparison,
        robustness=rows,
    )
    return card, evaluation


def reference(
    predictor: Predictor, held_out: HeldOut, learned: Images, novelty: Floats | None
) -> Reference:
    """Return the drift reference: features of held-out pictures, subsampled evenly if many.

    Args:
        predictor: the calibrated model.
        held_out: predictions of these pictures.
        learned: all pictures used for training.
        novelty: `[n]`, of the same pictures, if the network has it.
    """
    card = predictor.card
    count = len(held_out.logits)
    chosen = np.linspace(0, count - 1, min(count, features.MOST_PICTURES)).astype(np.int64)
    output = held_out.logits if novelty is None else np.c_[held_out.logits, novelty]
    parts, right = [], 0
    for rows in np.array_split(chosen, -(-len(chosen) // at_a_time(learned))):
        images = learned[held_out.rows[rows]]
        odd = predictor.odd(Prepared(images))
        said = Predictions.of(output[rows].astype(np.float32), card, odd)
        parts.append(features.measure(images, said, card))
        if card.head is not Head.SIGMOID:
            right += int(np.count_nonzero(said.argmax == held_out.truth[rows]))
    accuracy = None if card.head is Head.SIGMOID else right / len(chosen)
    return features.reference(features.joined(parts), card, accuracy)


def cross_validated(card: ModelCard, held_out: HeldOut, dataset: Dataset) -> Evaluation:
    """Return cross-fitted predictions: each fold is calibrated without its pictures.

    The card is calibrated on all of `held_out`, which contains all pictures in order; its novelty
    threshold is used.
    """
    logits, truth, groups, _ = held_out
    said = Predictions.of(logits.astype(np.float32), card)
    answers = np.zeros_like(truth) if card.head is Head.SIGMOID else None
    for fold in dataset.folds:
        rest = np.setdiff1d(np.arange(len(truth)), fold)
        one = calibrate(card, logits[rest], truth[rest], dataset.train.images[rest])
        found = evaluated(one, Predictions.of(logits[fold], one), dataset.train[fold])
        said.probabilities[fold] = found.predictions.probabilities
        said.argmax[fold] = found.predictions.argmax
        if answers is not None and found.answers is not None:
            answers[fold] = found.answers
    return Evaluation(card.head, said, truth, answers, groups)


def _summary(card: ModelCard) -> str:
    calibration = card.calibration
    assert calibration is not None  # noqa: S101 - set by `calibrate`
    what = f"temperature {card.temperature:.3f}" if card.scaling is None else "a scaling a label"
    before, after = calibration.before.nll, calibration.after.nll
    found = f"calibrated by {what}: NLL of held-out pictures {before:.5f} to {after:.5f} nats"
    if calibration.pictures < FEW:
        found += (
            f"; {calibration.pictures} pictures are too few to calibrate: the probabilities are "
            f"nearly those of the network (the prior dominates below {FEW})"
        )
    return found
