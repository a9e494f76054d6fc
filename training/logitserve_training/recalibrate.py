"""Calibrate and evaluate a published model file again, without training."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from rich.console import Console

from logitserve.inference import runtime
from logitserve.inference.card import ModelCard
from logitserve.inference.model_file import read
from logitserve.inference.predictor import LOGIT_TOLERANCE, Predictor, card_of
from logitserve.inference.repository import MODEL_FILE, REPORT_FOLDER, Draft, ModelRepository
from logitserve_training import recipes
from logitserve_training.backbone import Apart
from logitserve_training.datasets import sources
from logitserve_training.datasets.dataset import PARTS, Dataset
from logitserve_training.epochs import Epoch
from logitserve_training.errors import OptionError
from logitserve_training.finish import finish
from logitserve_training.progress import Reporter
from logitserve_training.report import METRICS_FILE
from logitserve_training.transfer import fit_head

_SAME: Final = 0.01
"""Tolerance for numerical noise, relative to the largest weight of a head."""


def recalibrate(
    name: str,
    *,
    data: Path | None,
    models: Path,
    in_place: bool = False,
    console: Console | None = None,
) -> ModelCard:
    """Calibrate the latest version of a model; publish it with a new report and new goldens.

    Existing goldens are not checked, since this version may preprocess images differently from the
    one that created them; the report has the new metrics.

    Args:
        name: name of the model.
        data: folder with the training data set; None downloads it.
        models: the folder of models.
        in_place: replace the version instead of publishing the next one; only for one that no
            service uses.
        console: output of the progress; default: standard error.

    Returns:
        the card of the published version.

    Raises:
        ModelNotFoundError: the model does not exist.
        ModelFileError: the file must not be served.
        OptionError: the recipe on the card is unknown, or the data set differs.
        DataError: the data set cannot be used.
        PublishError: the version cannot be published.
    """
    reporter = Reporter(console)
    repository = ModelRepository(models)
    file = repository.model_file(name)
    card = _with_new_goldens(file)
    recipe, dataset = sources.load(recipes.of_card(card), data, reporter)
    _require_same_data(card, dataset)
    proto, held_out = onnx.load(file), None
    if card.training is not None and "backbone" in card.training.settings:
        published = Apart.of(proto, card)
        again, held_out = fit_head(published.backbone, recipe, dataset, reporter)
        weights = published.head.kernel
        if np.abs(again.head.kernel - weights).max() > _SAME * np.abs(weights).max():
            # Out-of-fold predictions of another head would calibrate this one wrongly.
            raise OptionError("this version fits another head to these pictures: train again")
    making = _replacement(file.parent) if in_place else repository.publication(name)
    with making as draft:
        card = card.model_copy(update={"version": draft.version})
        card, _ = finish(
            draft.folder,
            proto,
            card,
            dataset=dataset,
            epochs=_epochs(file.parent),
            reporter=reporter,
            held_out=held_out,
        )
    reporter.line(f"published {models / name / card.version / MODEL_FILE}")
    return card


def _with_new_goldens(file: Path) -> ModelCard:
    """Return the card of a model file; goldens that fail get the graph's present logits."""
    with read(file) as reading:
        session = runtime.open_reading(reading)
        predictor = Predictor(card_of(session), session)
        card = predictor.card
        images = np.stack([predictor.decode(golden.image) for golden in card.goldens])
        logits = predictor.run(images).tolist()
    goldens = tuple(
        golden
        if np.allclose(found, golden.logits, LOGIT_TOLERANCE, LOGIT_TOLERANCE)
        else golden.model_copy(update={"logits": tuple(found)})
        for golden, found in zip(card.goldens, logits, strict=True)
    )
    return card.model_copy(update={"goldens": goldens})


def _require_same_data(card: ModelCard, dataset: Dataset) -> None:
    if card.dataset is None or dataset.info.sha256 != card.dataset.sha256:
        raise OptionError(
            f"model {card.name!r} was trained on other data: its card has SHA-256 "
            f"{card.dataset.sha256 if card.dataset else 'none'}, this is {dataset.info.sha256}; "
            "give the folder of its training with --data"
        )
    differing = [part for part in PARTS if dataset.digests[part] != card.dataset.parts[part]]
    if differing:
        raise OptionError(
            f"this version splits the data differently from the one that trained {card.name!r} "
            f"({', '.join(differing)} differ), so pictures of its training would be held "
            "out; train it again"
        )


def _epochs(version: Path) -> list[Epoch]:
    """Return the epochs in the version's report; empty without a report."""
    metrics = version / REPORT_FOLDER / METRICS_FILE
    if not metrics.is_file():
        return []
    return [Epoch(**epoch) for epoch in json.loads(metrics.read_text())["epochs"]]


@contextmanager
def _replacement(version: Path) -> Iterator[Draft]:
    """Yield a draft that replaces a version file by file, the model file last."""
    with tempfile.TemporaryDirectory(prefix=".staging-", dir=version.parent) as folder:
        draft = Draft(Path(folder), version.name)
        yield draft
        shutil.rmtree(version / REPORT_FOLDER, ignore_errors=True)
        for name in (REPORT_FOLDER, MODEL_FILE):
            (draft.folder / name).replace(version / name)
