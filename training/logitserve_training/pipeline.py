"""The recipe of a model, from pictures to a published file."""

import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from logitserve.inference.card import DatasetInfo, Golden, Head, ModelCard, Novelty, TrainingInfo
from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import MODEL_FILE, ModelRepository
from logitserve_training import backend, export, losses, networks
from logitserve_training.datasets import scenes, sources
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.errors import NotBetterError, OptionError, TrainingError
from logitserve_training.evaluate import Evaluation, evaluate
from logitserve_training.finish import finish
from logitserve_training.fit import Epoch, fit
from logitserve_training.progress import Reporter
from logitserve_training.recipes import Options, Recipe, Source
from logitserve_training.statistics.intervals import Paired

_COMPARED: Final = 5_000
"""Pictures; fewer where the data set has fewer."""

_GOLDEN_SCENES: Final = 10


@dataclass(frozen=True, slots=True)
class Published:
    """A model that was trained and published."""

    name: str
    version: str
    path: Path
    """The ONNX file."""
    metrics: dict[str, float]
    """Measured on the test part."""


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
) -> Published:
    """Train a model and publish its next version, whole or not at all.

    Args:
        recipe: what to make.
        options: how; `recipe.options` are the defaults.
        data: a folder with the data set; None downloads it.
        models: the folder of models.
        name: of the model; the recipe's by default.
        console: where progress is shown; standard error by default.
        if_better: publish only what has more right answers on the test part than the version
            before.
        resume: go on with a training that was interrupted, after its last whole epoch.

    Raises:
        OptionError: there is nothing to resume, or it was another training.
        NotBetterError: it has not, and `if_better` is set.
        DataError: the data set cannot be used.
        DivergedError: the loss became NaN or infinite.
        DisagreementError: the exported file does not answer as the network does.
        PublishError: the version cannot be put into the folder of models.
    """
    reporter = Reporter(console)
    recipe, dataset = sources.load(recipe, data, reporter)
    with ModelRepository(models).publication(name or recipe.name) as draft:
        reporter.line(f"{recipe.name}: {dataset.info.train} pictures, {options.epochs} epochs")
        checkpoint = _checkpoint(models / (name or recipe.name), recipe, options, resume=resume)
        try:
            network, epochs = _fitted(recipe, options, dataset, reporter, checkpoint)
        except KeyboardInterrupt:
            reporter.line("interrupted: with --resume the same command goes on after that epoch")
            raise
        except TrainingError:
            shutil.rmtree(checkpoint)
            raise
        shutil.rmtree(checkpoint)
        card = _card(
            recipe,
            options,
            name=name or recipe.name,
            version=draft.version,
            goldens=_goldens(network, recipe),
            dataset=dataset.info,
        )
        reporter.line("export to ONNX")
        proto = export.to_onnx(network, recipe.input, novelty=recipe.strangers > 0)
        export.write(proto, card, draft.folder / MODEL_FILE)
        _compare(network, draft.folder / MODEL_FILE, dataset, reporter)
        evaluation = finish(
            draft.folder, proto, card, dataset=dataset, epochs=epochs, reporter=reporter
        ).evaluation
        _compare_versions(
            models / card.name, draft.version, evaluation, dataset, reporter, if_better=if_better
        )
    path = models / card.name / card.version / MODEL_FILE
    reporter.line(f"published {path}: {_summary(evaluation)}")
    return Published(card.name, card.version, path, evaluation.metrics)


def _checkpoint(folder: Path, recipe: Recipe, options: Options, *, resume: bool) -> Path:
    """Where the state of a training is kept, so that it can be interrupted."""
    checkpoint, what = folder / ".training", f"{recipe!r}\n{options!r}\n"
    settings = checkpoint / "settings.txt"
    if resume:
        if not settings.is_file():
            raise OptionError(f"{folder} has no training to resume; leave --resume out")
        if settings.read_text() != what:
            raise OptionError(
                f"{checkpoint} is of a training with other options; give the same ones, or leave "
                "--resume out to begin anew"
            )
        return checkpoint
    shutil.rmtree(checkpoint, ignore_errors=True)
    checkpoint.mkdir(parents=True)
    settings.write_text(what)
    return checkpoint


def _fitted(
    recipe: Recipe, options: Options, dataset: Dataset, reporter: Reporter, checkpoint: Path
) -> tuple["backend.keras.Model", list[Epoch]]:
    backend.make_deterministic(options.seed)
    network = networks.build(
        recipe.network,
        shape=recipe.input.shape,
        logits=1 if recipe.head is Head.BINARY else len(recipe.labels) + bool(recipe.strangers),
        statistics=networks.PixelStatistics.of(dataset.train.images),
    )
    weights = None
    if recipe.is_weighed:
        logits = network.output_shape[-1]
        weights = losses.balancing(recipe.head, dataset.train.classes, logits)
        reporter.line(f"weights in the loss: {', '.join(f'{weight:.2f}' for weight in weights)}")
    epochs = fit(
        network,
        train=dataset.train,
        validation=dataset.validation,
        recipe=recipe,
        options=options,
        reporter=reporter,
        fresh=dataset.fresh,
        weights=weights,
        checkpoint=checkpoint,
    )
    if weights is not None:
        losses.unweigh(network, weights)
    return networks.with_novelty(network) if recipe.strangers else network, epochs


def _goldens(network: "backend.keras.Model", recipe: Recipe) -> tuple[Golden, ...]:
    pictures = scenes.drawn(count=_GOLDEN_SCENES) if recipe.source is Source.SCENES else None
    return export.draw_goldens(network, recipe.input, pictures)


def _card(
    recipe: Recipe,
    options: Options,
    *,
    name: str,
    version: str,
    goldens: tuple[Golden, ...],
    dataset: DatasetInfo,
) -> ModelCard:
    """The card of a model that has not been measured yet."""
    settings = asdict(options) | {
        "network": recipe.network,
        "schedule": recipe.schedule,
        "averaged_epochs": recipe.averaged_epochs,
        "augmentation": asdict(recipe.augmentation) if recipe.augmentation else None,
        "disturbed": recipe.disturbed,
        "strangers": recipe.strangers,
    }
    if recipe.folder is not None:
        settings["folder"] = {
            key: list(value) if isinstance(value, tuple) else value  # as JSON gives it back
            for key, value in asdict(recipe.folder).items()
        }
    return ModelCard(
        name=name,
        version=version,
        description=recipe.description,
        head=recipe.head,
        labels=recipe.labels,
        input=recipe.input,
        # until it is calibrated
        thresholds=(0.5,) * len(recipe.labels) if recipe.head is Head.SIGMOID else None,
        novelty=Novelty(threshold=0, known_share=1, pictures=1) if recipe.strangers else None,
        goldens=goldens,
        dataset=dataset,
        training=TrainingInfo(
            recipe=recipe.name,
            seed=options.seed,
            settings=settings,
            libraries=export.libraries(),
        ),
        created=datetime.now(UTC),
        license="Apache-2.0",
    )


def _compare(
    network: "backend.keras.Model", file: Path, dataset: Dataset, reporter: Reporter
) -> None:
    """Prove that the exported file answers as the network does, on the validation part first."""
    images = np.concatenate([dataset.validation.images, dataset.train.images[:_COMPARED]])
    difference = export.check_agreement(network, Predictor.load(file), images[:_COMPARED])
    reporter.line(f"Keras and onnxruntime agree to {difference:.1e} in probability")


def _compare_versions(
    folder: Path,
    version: str,
    evaluation: Evaluation,
    dataset: Dataset,
    reporter: Reporter,
    *,
    if_better: bool,
) -> None:
    """Say which has more right answers on the test part, this version or the one before.

    Raises:
        NotBetterError: this one has not, and `if_better` is set.
    """
    before = folder / str(int(version) - 1) / MODEL_FILE
    if not before.is_file():
        return
    predictor = Predictor.load(before)
    card = predictor.card
    if card.dataset is None or card.dataset.parts["test"] != dataset.digests["test"]:
        reporter.line(f"version {card.version} was tested on other pictures: not compared")
        return
    paired = Paired.of(evaluation.is_right, evaluate(predictor, dataset.test).is_right)
    verdict = "no difference beyond chance"
    if paired.p < 0.05:
        verdict = "better" if paired.only_first > paired.only_second else "WORSE"
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
