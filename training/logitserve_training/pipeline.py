"""Train a recipe: from pictures to a published model."""

import shutil
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from logitserve.inference.card import DatasetInfo, Golden, Head, ModelCard, Novelty, TrainingInfo
from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import MODEL_FILE, ModelRepository
from logitserve_training import advice, export, from_scratch, transfer
from logitserve_training.backbone import Apart, Backbone
from logitserve_training.datasets import scenes, sources
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.errors import NotBetterError, OptionError
from logitserve_training.evaluate import Evaluation, evaluate
from logitserve_training.finish import HeldOut, finish
from logitserve_training.interruption import also_by_sigterm
from logitserve_training.progress import Reporter
from logitserve_training.recipes import Options, Recipe, Source
from logitserve_training.statistics.intervals import Paired

_COMPARED: Final = 5_000
"""Number of pictures to compare both models on, if the data set has so many."""

_COMPARED_ON_TOP: Final = 300
"""The number with a backbone, which is slow."""
_GOLDEN_SCENES: Final = 10
_SPACE: Final = 100_000_000
"""Required disk space in bytes for checkpoints, model and report."""


@dataclass(frozen=True, slots=True)
class Published:
    """A trained and published model."""

    name: str
    version: str
    path: Path
    """The ONNX file."""
    metrics: dict[str, float]
    """Metrics on the test part."""
    advice: tuple[str, ...] = ()
    """Advice for the user, one line each."""


def train(
    recipe: Recipe,
    options: Options,
    *,
    data: Path | None,
    models: Path,
    name: str | None = None,
    console: Console | None = None,
    if_better: bool = False,
    resume: bool = False,
    take_best: bool = False,
    backbone: Backbone | None = None,
) -> Published:
    """Train a model and publish its next version atomically.

    Args:
        recipe: recipe of the model.
        options: training options; the defaults are `recipe.options`.
        data: a folder with the data set; None downloads it.
        models: the folder of models.
        name: name of the model; default: the recipe's.
        console: output of the progress; default: standard error.
        if_better: publish only if the test part has more right answers than with the previous
            version.
        resume: resume an interrupted training after its last complete epoch.
        take_best: with `resume`, publish the best epoch so far instead of training on.
        backbone: for a folder: train a head on its features instead of a new network.

    Raises:
        OptionError: there is nothing to resume, or the options differ.
        NotBetterError: `if_better` is set, and the version is not better.
        DataError: the data set cannot be used.
        DivergedError: the loss became NaN or infinite.
        DisagreementError: the exported file's output differs from the network's.
        PublishError: the version cannot be published.
    """
    reporter = Reporter(console)
    if backbone is not None:
        recipe = backbone.recipe_of(recipe)
    publication = ModelRepository(models).publication(name or recipe.name)
    with also_by_sigterm(), publication as draft, ExitStack() as until_published:
        _require_space(draft.folder, backbone)
        recipe, dataset = sources.load(recipe, data, reporter)
        held_out: HeldOut | None = None
        if backbone is None:
            checkpoint = until_published.enter_context(
                from_scratch.open_checkpoint(
                    models / (name or recipe.name), recipe, options, reporter,
                    resume=resume, take_best=take_best,
                )
            )  # fmt: skip
            network, epochs = from_scratch.fit_network(
                recipe, options, dataset, reporter, checkpoint=checkpoint, take_best=take_best
            )
        else:
            network, held_out = transfer.fit_head(backbone, recipe, dataset, reporter)
            epochs = []
        drawn = scenes.drawn(count=_GOLDEN_SCENES) if recipe.source is Source.SCENES else None
        card = _card(
            recipe,
            options,
            name=name or recipe.name,
            version=draft.version,
            goldens=export.draw_goldens(network, recipe.input, drawn),
            dataset=dataset.info,
            backbone=backbone,
        )
        reporter.line("export to ONNX")
        if isinstance(network, Apart):
            proto = network.backbone.with_head(network.head)
        else:
            proto = export.to_onnx(network, recipe.input, novelty=recipe.negatives > 0)
        export.write(proto, card, draft.folder / MODEL_FILE)
        _compare(network, draft.folder / MODEL_FILE, dataset, reporter)
        card, evaluation = finish(
            draft.folder,
            proto,
            card,
            dataset=dataset,
            epochs=epochs,
            reporter=reporter,
            held_out=held_out,
        )
        _compare_versions(
            models / card.name, draft.version, evaluation, dataset, reporter, if_better=if_better
        )
    path = models / card.name / card.version / MODEL_FILE
    how = f" ({len(dataset.folds)}-fold cross-validation)" if dataset.folds else ""
    reporter.line(f"published {path}: {_summary(evaluation)}{how}")
    told = tuple(advice.lines(card, evaluation, dataset, held_out))
    return Published(card.name, card.version, path, evaluation.metrics, told)


def _require_space(folder: Path, backbone: Backbone | None) -> None:
    """Check the free disk space before the first epoch.

    Raises:
        OptionError: the file system has too little space.
    """
    needed = _SPACE + (0 if backbone is None else 2 * backbone.graph.ByteSize())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OptionError(
            f"{folder.parent} has {free / 1e6:.0f} MB free, and a training needs "
            f"{needed / 1e6:.0f} MB: free some, or choose another folder with --models"
        )


def _card(
    recipe: Recipe,
    options: Options,
    *,
    name: str,
    version: str,
    goldens: tuple[Golden, ...],
    dataset: DatasetInfo,
    backbone: Backbone | None,
) -> ModelCard:
    """Return the card before calibration and evaluation."""
    settings = asdict(options) | {
        "network": recipe.network,
        "schedule": recipe.schedule,
        "averaged_epochs": recipe.averaged_epochs,
        "augmentation": asdict(recipe.augmentation) if recipe.augmentation else None,
        "disturbed": recipe.disturbed,
        "negatives": recipe.negatives,
        "novelty_units": recipe.novelty_units,
    }
    if recipe.folder is not None:
        settings["folder"] = {
            key: list(value) if isinstance(value, tuple) else value  # as JSON returns it
            for key, value in asdict(recipe.folder).items()
        }
    description = recipe.description
    if backbone is not None:
        settings = {"folder": settings["folder"], "backbone": backbone.settings}
        description = f"{description[:-1]}, on the features of {backbone.settings['file']}."
    return ModelCard(
        name=name,
        version=version,
        description=description,
        head=recipe.head,
        labels=recipe.labels,
        input=recipe.input,
        # placeholder until calibration
        thresholds=(0.5,) * len(recipe.labels) if recipe.head is Head.SIGMOID else None,
        novelty=Novelty(threshold=0, known_share=1, pictures=1) if recipe.negatives else None,
        goldens=goldens,
        dataset=dataset,
        training=TrainingInfo(
            recipe=recipe.name,
            seed=options.seed,
            settings=settings,
            libraries=export.libraries(),
        ),
        created=datetime.now(UTC),
        license="Apache-2.0" if backbone is None else backbone.license,
    )


def _compare(network: Any, file: Path, dataset: Dataset, reporter: Reporter) -> None:
    """Check that the exported file agrees with the network, on the validation part first."""
    images = np.concatenate([dataset.validation.images, dataset.train.images[:_COMPARED]])
    compared = images[: _COMPARED_ON_TOP if isinstance(network, Apart) else _COMPARED]
    difference = export.check_agreement(network, Predictor.load(file), compared)
    what = "backbone and head" if isinstance(network, Apart) else "Keras"
    reporter.line(f"{what} and onnxruntime agree to {difference:.1e} in probability")


def _compare_versions(
    folder: Path,
    version: str,
    evaluation: Evaluation,
    dataset: Dataset,
    reporter: Reporter,
    *,
    if_better: bool,
) -> None:
    """Report whether this or the previous version has more right answers on the test part.

    Raises:
        NotBetterError: `if_better` is set, and this version is not better.
    """
    before = folder / str(int(version) - 1) / MODEL_FILE
    if not before.is_file():
        return
    predictor = Predictor.load(before)
    card = predictor.card
    if (
        dataset.folds
        or card.dataset is None
        or card.dataset.parts["test"] != dataset.digests["test"]
    ):
        what = "was trained on these" if dataset.folds else "was tested on other"
        reporter.line(f"version {card.version} {what} pictures: not compared")
        return
    paired = Paired.of(evaluation.is_right, evaluate(predictor, dataset.test).is_right)
    said = {"cannot tell": "no significant difference", "worse": "WORSE"}
    verdict = said.get(paired.verdict, paired.verdict)
    found = (
        f"beside version {card.version}: right where that is wrong on {paired.only_first} test "
        f"pictures, wrong where that is right on {paired.only_second} (p {paired.p:.2g}, McNemar): "
        f"{verdict}"
    )
    reporter.line(found)
    if if_better and paired.only_first <= paired.only_second:
        raise NotBetterError(f"{found}; nothing is published (--if-better)")


def _summary(evaluation: Evaluation) -> str:
    return ", ".join(
        "{} {:.4f} ({:.4f} to {:.4f})".format(name, value, *evaluation.intervals[name])
        for name, value in evaluation.metrics.items()
    )
