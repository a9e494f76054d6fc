"""Train a network from scratch; the training can be interrupted and resumed."""

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
"""Number of pictures below which a pretrained backbone is recommended."""
_HINT: Final = (
    f"fewer than {_FEW} pictures: the features of a pretrained network are better than a network "
    "from scratch. Give one with --backbone: torchvision's or timm's exported to ONNX, or "
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
    """Yield the folder of the checkpoint, which is kept after an interruption.

    Raises:
        OptionError: there is nothing to resume, the options differ, or there is no best epoch.
    """
    checkpoint, what = folder / ".training", f"{recipe!r}\n{options!r}\n"
    settings = checkpoint / "settings.txt"
    if resume:
        if not settings.is_file():
            raise OptionError(f"{folder} has no training to resume; omit --resume")
        if settings.read_text() != what:
            raise OptionError(
                f"{checkpoint} belongs to a training with other options; give the same, or omit "
                "--resume to start again"
            )
        if take_best and not (recipe.keeps_best and (checkpoint / EPOCHS_FILE).is_file()):
            raise OptionError(
                f"{checkpoint} has no best epoch to publish (--finish): use --resume alone"
            )
    else:
        shutil.rmtree(checkpoint, ignore_errors=True)
        checkpoint.mkdir(parents=True)
        settings.write_text(what)
    try:
        yield checkpoint
    except KeyboardInterrupt:
        if checkpoint.exists():
            best = "; with --resume --finish it publishes the best epoch" * recipe.keeps_best
            reporter.line(
                f"interrupted: run the same command with --resume to go on after it{best}"
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
    """Return the trained network of a recipe, and its epochs.

    The checkpoint is kept only if it has the best epoch; otherwise nothing is left to resume.

    Raises:
        OptionError: the pictures are split into folds.
        DivergedError: the loss became NaN or infinite.
    """
    if dataset.folds:
        raise OptionError(FOLDS_NEED_A_BACKBONE)
    info = dataset.info
    if recipe.source is Source.FOLDER and info.train + info.validation + info.test < _FEW:
        reporter.line(_HINT)
    reporter.line(f"{recipe.name}: {info.train} pictures, {options.epochs} epochs")
    backend.make_deterministic(options.seed)
    shares = recipe.negatives > 0 and not recipe.novelty_units
    network = networks.build(
        recipe.network,
        shape=recipe.input.shape,
        logits=1 if recipe.head is Head.BINARY else len(recipe.labels) + shares,
        novelty_units=recipe.novelty_units,
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
