"""A network from scratch, fitted in a way that can be interrupted."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from logitserve.inference.card import Head
from logitserve_training import backend, losses, networks
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.epochs import EPOCHS_FILE, Epoch
from logitserve_training.errors import OptionError, TrainingError
from logitserve_training.fit import fit
from logitserve_training.progress import Reporter
from logitserve_training.recipes import FOLDS_NEED_A_BACKBONE, Options, Recipe, Source

_FEW: Final = 2_000
"""Pictures below which a backbone is worth more than a network of one's own."""
_HINT: Final = (
    f"fewer than {_FEW} pictures: a network that was trained on many others finds more in them "
    "than one from scratch. Give one with --backbone: torchvision's or timm's exported to ONNX, or "
    "keras:EfficientNetV2B0 once its weights are in Keras's cache (docs/folder.md)"
)


@contextmanager
def open_checkpoint(
    folder: Path,
    recipe: Recipe,
    options: Options,
    reporter: Reporter,
    *,
    resume: bool,
    take_best: bool,
) -> Iterator[Path]:
    """Where the state of a training is kept until the block ends, or since it was interrupted.

    Raises:
        OptionError: there is nothing to resume, it was another training, or it has no best epoch.
    """
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
        if take_best and not (recipe.keeps_best and (checkpoint / EPOCHS_FILE).is_file()):
            raise OptionError(
                f"{checkpoint} has no best epoch to publish (--finish): go on with --resume alone"
            )
    else:
        shutil.rmtree(checkpoint, ignore_errors=True)
        checkpoint.mkdir(parents=True)
        settings.write_text(what)
    try:
        yield checkpoint
    except KeyboardInterrupt:
        if checkpoint.exists():
            best = "; with --resume --finish it publishes the best so far" * recipe.keeps_best
            reporter.line(
                f"interrupted: with --resume the same command goes on after that epoch{best}"
            )
        raise
    except TrainingError:
        shutil.rmtree(checkpoint, ignore_errors=True)
        raise
    shutil.rmtree(checkpoint, ignore_errors=True)


def fit_network(
    recipe: Recipe,
    options: Options,
    dataset: Dataset,
    reporter: Reporter,
    *,
    checkpoint: Path,
    take_best: bool,
) -> tuple["backend.keras.Model", list[Epoch]]:
    """The network of a recipe with its epochs.

    The checkpoint is kept only where it has the best epoch: else nothing is left to resume.

    Raises:
        OptionError: the pictures are parted in folds.
        DivergedError: the loss became NaN or infinite.
    """
    if dataset.folds:
        raise OptionError(FOLDS_NEED_A_BACKBONE)
    info = dataset.info
    if recipe.source is Source.FOLDER and info.train + info.validation + info.test < _FEW:
        reporter.line(_HINT)
    reporter.line(f"{recipe.name}: {info.train} pictures, {options.epochs} epochs")
    backend.make_deterministic(options.seed)
    shares = recipe.strangers > 0 and not recipe.own
    network = networks.build(
        recipe.network,
        shape=recipe.input.shape,
        logits=1 if recipe.head is Head.BINARY else len(recipe.labels) + shares,
        own=recipe.own,
        statistics=networks.PixelStatistics.of(dataset.train.images),
    )
    if shares:
        network = networks.with_novelty(network)
    weights = None
    if recipe.is_weighed:
        logits = network.output_shape[-1]
        weights = losses.balancing(recipe.head, dataset.train.classes, logits)
        reporter.line(f"weights in the loss: {', '.join(f'{weight:.2f}' for weight in weights)}")
    epochs = fit(
        network, dataset, recipe, options, reporter,
        checkpoint=checkpoint, weights=weights, take_best=take_best,
    )  # fmt: skip
    if weights is not None:
        losses.unweigh(network, weights)
    if not recipe.keeps_best:
        shutil.rmtree(checkpoint)
    return network, epochs
