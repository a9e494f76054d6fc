"""Fit the weights to the training part, with validation after each epoch."""

import math
from pathlib import Path
from typing import Any, Final

import numpy as np

from logitserve.inference.card import Head
from logitserve_training import losses, synthetic_negatives
from logitserve_training.backend import keras, tf
from logitserve_training.batches import batches_of, pictures_of, targets_of
from logitserve_training.datasets.dataset import Dataset, Images, LabeledImages
from logitserve_training.epochs import Best, Epoch, EpochLog
from logitserve_training.errors import DivergedError
from logitserve_training.interruption import remembered
from logitserve_training.progress import Reporter
from logitserve_training.recipes import Optimizer, Options, Recipe, Schedule

_WARM_UP_SHARE: Final = 0.05
_MOMENTUM: Final = 0.9
_ESTIMATED: Final = 10_000
"""Number of pictures for estimating batch normalization statistics."""
_ESTIMATED_BATCH: Final = 500
_PICTURES_A_STRANGER: Final = 22
"""Training pictures per negative example of a kind."""
_AVERAGED_SHARE: Final = 0.1
"""Maximum time constant as a share of the training, so that initial weights are forgotten."""


def fit(
    network: "keras.Model",
    dataset: Dataset,
    recipe: Recipe,
    options: Options,
    reporter: Reporter,
    *,
    checkpoint: Path,
    weights: losses.Weights | None = None,
    take_best: bool = False,
) -> list[Epoch]:
    """Fit the network's weights in place.

    Args:
        network: made by `networks.build`.
        dataset: weights are fitted to its train part; its validation part is only evaluated.
        recipe: loss, schedule, averaging and augmentation.
        options: optimizer, epochs and other options.
        reporter: receives progress messages.
        checkpoint: folder of each epoch's state, until the last; training resumes from it.
        weights: class weights of the loss; None for equal weights.
        take_best: load the best epoch of the checkpoint instead of training.

    Returns:
        one entry per epoch.

    Raises:
        DivergedError: the loss became NaN or infinite.
    """
    train, validation = dataset.train, dataset.validation
    steps = math.ceil(len(train) / options.batch_size)
    optimizer = _optimizer(network, recipe, options, steps)
    network.compile(
        optimizer=optimizer,
        loss=(
            losses.with_negatives(recipe.head, len(recipe.labels))
            if recipe.negatives
            else losses.fused(recipe.head, weights)
        ),
        metrics=[_accuracy(recipe)],
    )
    _create_state(network, optimizer, validation, recipe.head)
    log = EpochLog(reporter, options.epochs, checkpoint)
    done = len(log.epochs)
    strange = None
    if recipe.negatives:
        count = max(1, len(train) // _PICTURES_A_STRANGER)
        strange = synthetic_negatives.make(train.images, recipe.input, options.seed, count=count)
    callbacks = _callbacks(recipe, optimizer)
    best = Best(log, options.epochs, checkpoint) if recipe.keeps_best else None
    if best is not None:
        callbacks.insert(0, best)  # runs before the averaged weights are swapped back
        best.set_model(network)
    if best is not None and (take_best or best.is_over):
        best.restore(reporter)
        estimate_statistics(network, train.images)
        return log.epochs
    with reporter.steps("fit", steps * (options.epochs - done)) as advance, remembered() as check:

        def end_step(batch: int, logs: Any) -> None:  # noqa: ARG001 - names required by Keras
            advance(1)
            check()

        network.fit(
            batches_of(dataset, recipe, options, done=done, strange=strange),
            shuffle=False,  # the stream is shuffled
            steps_per_epoch=steps,
            epochs=options.epochs,
            validation_data=(validation.images, targets_of(validation.classes, recipe.head)),
            validation_batch_size=1000,
            callbacks=[
                *callbacks,
                keras.callbacks.BackupAndRestore(checkpoint / "state"),
                log,
                keras.callbacks.LambdaCallback(on_train_batch_end=end_step),
            ],
            verbose=0,
        )
        check()
    _require_convergence(log.epochs, options, is_stopped=best is not None and best.is_stopped)
    if best is not None:
        best.restore(reporter)
    if recipe.disturbed:
        batches = batches_of(dataset, recipe, options, done=options.epochs, strange=strange)
        estimate_statistics(
            network, pictures_of(batches, math.ceil(_ESTIMATED / options.batch_size))
        )
    else:
        estimate_statistics(network, train.images)
    return log.epochs


def estimate_statistics(network: "keras.Model", images: Images) -> None:
    """Set the batch normalization statistics to those of up to 10,000 pictures, in place.

    Training leaves moving averages over outdated weights, and after few steps mostly the initial
    values: Keras keeps 0.99 of them per step. These are computed with the final weights, averaged
    over large batches (Izmailov et al. 2018, arXiv:1803.05407).
    """
    layers = [
        layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    order = np.random.default_rng(0).permutation(len(images))[:_ESTIMATED]
    parts = np.array_split(order, math.ceil(len(order) / _ESTIMATED_BATCH))
    for number, rows in enumerate(parts):
        for layer in layers:
            layer.momentum = number / (number + 1)  # cumulative mean over the batches
        network(images[np.sort(rows)], training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def _create_state(
    network: "keras.Model", optimizer: Any, images: LabeledImages, head: Head
) -> None:
    """Create the variables of optimizer and metrics.

    `tf.function` traces a step twice if its first call creates variables.
    """
    optimizer.build(network.trainable_variables)
    one = slice(0, 1)
    targets = targets_of(images.classes[one], head)
    network.compute_metrics(None, targets, network(images.images[one]))
    network.reset_metrics()


def _require_convergence(epochs: list[Epoch], options: Options, *, is_stopped: bool) -> None:
    is_short = len(epochs) < options.epochs and not is_stopped
    if is_short or not math.isfinite(epochs[-1].loss):
        raise DivergedError(
            f"the loss became NaN or infinite in epoch {len(epochs)}; "
            f"try a --learning-rate below {options.learning_rate:g}"
        )


def _shortened_average(optimizer: Any) -> Any:
    """Let the moving average forget the initial weights: momentum min(m, (1 + t)/(10 + t)).

    As in `tf.train.ExponentialMovingAverage(num_updates=t)`, with step t.
    """
    largest = optimizer.ema_momentum
    momentum = tf.Variable(0.0, trainable=False)
    optimizer.ema_momentum = momentum

    def shorten(batch: int, logs: Any) -> None:  # noqa: ARG001 - names required by Keras
        step = int(optimizer.iterations.numpy())
        momentum.assign(min(largest, (1 + step) / (10 + step)))

    return keras.callbacks.LambdaCallback(on_train_batch_begin=shorten)


def _callbacks(recipe: Recipe, optimizer: Any) -> list[Any]:
    if recipe.averaged_epochs is None:
        return [keras.callbacks.TerminateOnNaN()]
    return [
        keras.callbacks.SwapEMAWeights(),
        keras.callbacks.TerminateOnNaN(),
        _shortened_average(optimizer),
    ]


def _accuracy(recipe: Recipe) -> Any:
    head = recipe.head
    if recipe.negatives:
        return losses.accuracy_with_negatives(head, len(recipe.labels))
    if head is Head.SOFTMAX:
        return keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    return keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)  # of logits: p > 1/2


def _optimizer(network: "keras.Model", recipe: Recipe, options: Options, steps: int) -> Any:
    """Return the optimizer; `steps` is the number of steps per epoch."""
    common: dict[str, Any] = {
        "learning_rate": _learning_rate(
            recipe.schedule, options.learning_rate, steps * options.epochs
        ),
        "weight_decay": options.weight_decay or None,
    }
    if recipe.averaged_epochs is not None:
        averaged_epochs = min(recipe.averaged_epochs, _AVERAGED_SHARE * options.epochs)
        common |= {"use_ema": True, "ema_momentum": math.exp(-1 / (averaged_epochs * steps))}
    if options.optimizer is Optimizer.ADAM:
        optimizer = keras.optimizers.Adam(**common)
    else:
        optimizer = keras.optimizers.SGD(momentum=_MOMENTUM, nesterov=True, **common)
    # Biases and batch normalization scales are not regularized.
    vectors = [variable for variable in network.trainable_variables if len(variable.shape) == 1]
    optimizer.exclude_from_weight_decay(var_list=vectors)
    return optimizer


def _learning_rate(schedule: Schedule, peak: float, steps: int) -> Any:
    if schedule is Schedule.CONSTANT:
        return peak
    warm_up = round(_WARM_UP_SHARE * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, decay_steps=steps - warm_up, warmup_target=peak, warmup_steps=warm_up
    )
