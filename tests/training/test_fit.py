import io
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from rich.console import Console

from logitserve.inference.card import Head
from logitserve_training import backend, recipes
from logitserve_training.backend import tf
from logitserve_training.batches import batches_of
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.epochs import Epoch
from logitserve_training.errors import DivergedError
from logitserve_training.fit import fit
from logitserve_training.networks import PixelStatistics, build
from logitserve_training.progress import Advance, Reporter
from logitserve_training.recipes import NetworkName, Optimizer, Options, Recipe
from logitserve_training.statistics.calibration import losses as nll

OPTIONS = Options(epochs=2, batch_size=64, learning_rate=5e-3, seed=1)
Weights = list[npt.NDArray[np.float32]]


def fitted_network(
    dataset: Dataset, recipe: Recipe, options: Options, log: io.StringIO | None = None
) -> tuple[Any, list[Epoch]]:
    dataset = dataset.regrouped(recipe.class_of)
    backend.make_deterministic(options.seed)
    network = build(
        recipe.network,
        shape=recipe.input.shape,
        logits=10 + (recipe.negatives > 0 and not recipe.novelty_units),
        novelty_units=recipe.novelty_units,
        statistics=PixelStatistics.of(dataset.train.images),
    )
    reporter = Reporter(Console(file=log or io.StringIO(), width=200))
    with tempfile.TemporaryDirectory() as folder:
        epochs = fit(network, dataset, recipe, options, reporter, checkpoint=Path(folder))
    return network, epochs


def fitted(
    dataset: Dataset, recipe: Recipe, options: Options, log: io.StringIO | None = None
) -> tuple[Weights, list[Epoch]]:
    network, epochs = fitted_network(dataset, recipe, options, log)
    return network.get_weights(), epochs


def plain(name: str) -> Recipe:
    """A recipe without its class for negatives."""
    return replace(recipes.find(name), negatives=0.0, novelty_units=0)


def are_equal(some: Weights, others: Weights) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(some, others, strict=True))


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """The CNN's augmentation, schedule and averaging, on a network that takes less time."""
    clean = replace(recipes.find("digits"), disturbed=0.0, negatives=0.0)
    return replace(clean, network=NetworkName.LINEAR)


@pytest.fixture(scope="module")
def weights(dataset: Dataset, recipe: Recipe) -> Weights:
    return fitted(dataset, recipe, OPTIONS)[0]


def test_the_same_seed_gives_the_same_weights(
    dataset: Dataset, recipe: Recipe, weights: Weights
) -> None:
    assert are_equal(weights, fitted(dataset, recipe, OPTIONS)[0])


def test_another_seed_gives_others(dataset: Dataset, recipe: Recipe, weights: Weights) -> None:
    assert not are_equal(weights, fitted(dataset, recipe, replace(OPTIONS, seed=2))[0])


def test_the_network_sees_the_pictures_bent(
    dataset: Dataset, recipe: Recipe, weights: Weights
) -> None:
    assert not are_equal(weights, fitted(dataset, replace(recipe, augmentation=None), OPTIONS)[0])


def test_the_last_pictures_are_seen_as_they_are(
    dataset: Dataset, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures that are varied come out black here, so what the network saw tells which were."""
    monkeypatch.setattr(
        "logitserve_training.batches.vary", lambda images, *_: tf.zeros_like(images)
    )
    assert recipe.augmentation is not None
    for until, seen_black in ((1.0, [True] * 4), (0.5, [True, True, False, False])):
        varying = replace(recipe, augmentation=replace(recipe.augmentation, until=until))
        options = replace(OPTIONS, epochs=4, batch_size=len(dataset.train))
        batches = batches_of(dataset, varying, options).take(4)
        assert [not images.numpy().any() for images, _ in batches] == seen_black


def test_half_is_disturbed_and_negatives_follow(dataset: Dataset, recipe: Recipe) -> None:
    plain = replace(recipe, augmentation=None)
    both = replace(plain, disturbed=0.5, negatives=0.25)
    strange = np.full((3, 28, 28, 1), 7, np.uint8)

    def first(recipe: Recipe, strange: Any = None) -> list[Any]:
        batches = batches_of(dataset, recipe, OPTIONS, strange=strange)
        return [each.numpy() for pair in batches.take(2) for each in pair]

    for (seen, classes), (images, targets) in zip(
        pairwise_of(first(plain)), pairwise_of(first(both, strange)), strict=True
    ):
        assert (len(images), len(targets)) == (80, 80)
        changed = (images[:64] != seen).any(axis=(1, 2, 3))
        assert changed[:32].mean() > 0.9
        assert not changed[32:].any()
        np.testing.assert_array_equal(targets[:64], classes)
        assert (targets[64:] == 10).all()
        assert (images[72:] == 7).all()
    for one, other in zip(first(both, strange), first(both, strange), strict=True):
        np.testing.assert_array_equal(one, other)


def pairwise_of(arrays: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def test_a_line_is_written_about_each_epoch(dataset: Dataset) -> None:
    """Also, the average after the first is not that of fresh weights."""
    log = io.StringIO()
    options = replace(OPTIONS, epochs=20, batch_size=64)
    _, epochs = fitted(dataset, recipes.find("digits-mlp"), options, log)
    assert len(epochs) == 20
    assert epochs[3].loss < epochs[0].loss / 2
    assert epochs[0].validation_accuracy > epochs[0].accuracy - 0.1
    assert epochs[3].validation_accuracy > 0.8
    lines = log.getvalue().splitlines()
    assert len(lines) == 20
    assert lines[0].startswith("epoch 1/20: loss ")
    assert lines[-1].endswith("left 0:00:00")


@pytest.mark.parametrize("averaged", [None, 0.5])
def test_the_best_epoch_is_kept(dataset: Dataset, averaged: float | None) -> None:
    """Steps that are too long, so that validation gets better and worse; also of the average."""
    recipe = replace(plain("digits-mlp"), keeps_best=True, averaged_epochs=averaged)
    log = io.StringIO()
    options = replace(OPTIONS, epochs=8, learning_rate=0.1)
    network, epochs = fitted_network(dataset, recipe, options, log)
    logits = network.predict(dataset.validation.images, verbose=0)
    losses = [epoch.validation_loss for epoch in epochs]
    found = float(np.mean(nll(Head.SOFTMAX, logits, dataset.validation.classes)))
    assert found == pytest.approx(min(losses), rel=1e-4)
    assert (
        f"using the weights of epoch {1 + int(np.argmin(losses))}, with the lowest"
        in log.getvalue()
    )


def test_training_ends_when_validation_gets_no_better(dataset: Dataset) -> None:
    recipe = replace(recipes.find("softmax-regression"), keeps_best=True, averaged_epochs=None)
    options = replace(OPTIONS, epochs=30, optimizer=Optimizer.SGD, learning_rate=1e-12)
    _, epochs = fitted(dataset, recipe, options)
    assert len(epochs) == 11


def test_a_convolutional_recipe_takes_a_step(dataset: Dataset) -> None:
    small = replace(dataset, train=dataset.train[:64], validation=dataset.validation[:20])
    _, epochs = fitted(small, recipes.find("digits"), replace(OPTIONS, epochs=1))
    assert np.isfinite(epochs[0].validation_loss)


@pytest.mark.parametrize("optimizer", Optimizer)
def test_weight_decay_is_decoupled_under_either_optimizer(
    dataset: Dataset, optimizer: Optimizer
) -> None:
    """Twenty steps that each take half of every weight leave next to nothing of them."""
    recipe = replace(plain("softmax-regression"), averaged_epochs=None)
    options = replace(OPTIONS, optimizer=optimizer, learning_rate=1e-4, weight_decay=5e3)
    (kernel, _), _ = fitted(dataset, recipe, options)
    assert np.abs(kernel).max() < 1e-3


def test_the_average_of_the_weights_is_what_is_validated_and_kept(dataset: Dataset) -> None:
    recipe = plain("softmax-regression")
    network, epochs = fitted_network(dataset, recipe, OPTIONS)
    last_steps, _ = fitted(dataset, replace(recipe, averaged_epochs=None), OPTIONS)
    averaged = network.get_weights()
    assert not are_equal(averaged, last_steps)
    np.testing.assert_allclose(averaged[0], last_steps[0], atol=10 * OPTIONS.learning_rate)

    logits = np.asarray(network(dataset.validation.images), dtype=np.float64)
    loss = nll(Head.SOFTMAX, logits, dataset.validation.classes).mean()
    assert epochs[-1].validation_loss == pytest.approx(loss, rel=1e-4)


def test_the_statistics_of_a_short_training_are_those_of_the_weights(
    dataset: Dataset, recipe: Recipe
) -> None:
    """Keras' moving averages keep 0.9 of the fresh network's after ten steps."""
    recipe = replace(recipe, network=NetworkName.CNN, augmentation=None)
    network, _ = fitted_network(dataset, recipe, replace(OPTIONS, epochs=1, batch_size=132))
    first = next(layer for layer in network.layers if hasattr(layer, "moving_mean"))
    before = backend.keras.Model(network.input, first.input)
    seen = np.asarray(before(dataset.train.images)).reshape(-1, first.gamma.shape[0])
    np.testing.assert_allclose(first.moving_mean, seen.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(first.moving_variance, seen.var(axis=0), rtol=0.02)
    assert first.momentum == 0.99


def test_a_single_epoch_is_enough_for_an_average_of_trained_weights(dataset: Dataset) -> None:
    options = replace(OPTIONS, epochs=1, batch_size=8)
    _, epochs = fitted(dataset, recipes.find("softmax-regression"), options)
    assert epochs[0].validation_accuracy > 0.85


def test_a_loss_that_runs_away_is_an_error_that_names_the_option(dataset: Dataset) -> None:
    with pytest.raises(DivergedError, match="try a --learning-rate below 1e"):
        fitted(
            dataset,
            recipes.find("digits-mlp"),
            replace(OPTIONS, optimizer=Optimizer.SGD, learning_rate=1e30),
        )


class Interrupting:
    """Is interrupted while it is destroyed, where Python drops what is raised."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_that_python_drops_ends_the_training(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    @contextmanager
    def steps(*_: object) -> Iterator[Advance]:
        def advance(more: int) -> None:
            told.append(more)
            if len(told) == 3:
                Interrupting()

        yield advance

    monkeypatch.setattr(Reporter, "steps", steps)
    with pytest.raises(KeyboardInterrupt):
        fitted(dataset, recipes.RECIPES["softmax-regression"], OPTIONS)
    assert len(told) == 3
