"""Weights fitted to the training part, with the validation part looked at after each epoch."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np

from logitserve.inference.card import Head
from logitserve_training import losses, made_up
from logitserve_training.augment import vary
from logitserve_training.backend import keras, tf
from logitserve_training.datasets.dataset import Classes, Images, LabeledImages
from logitserve_training.disturb import disturb
from logitserve_training.errors import DivergedError
from logitserve_training.interruption import remembered
from logitserve_training.progress import Reporter, Stopwatch
from logitserve_training.recipes import Augmentation, Optimizer, Options, Recipe, Schedule

_WARM_UP_SHARE: Final = 0.05
_MOMENTUM: Final = 0.9
_ESTIMATED: Final = 10_000
"""Pictures over which the statistics of batch normalization are estimated."""
_ESTIMATED_BATCH: Final = 500
EPOCHS_FILE: Final = "epochs.json"
_BEST: Final = "best.npz"
_LEAST_PATIENCE: Final = 10
"""Epochs without a better one after which training ends, at least."""
_PICTURES_A_STRANGER: Final = 22
"""Of the training part, for each stranger of a kind."""
_AVERAGED_SHARE: Final = 0.1
"""Of the training, at most: or the average of a short one would still hold the fresh weights."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the training part gave."""

    loss: float
    """Mean over the training part, of the weights as they were at each step; nats."""
    accuracy: float
    """Likewise; a fraction."""
    validation_loss: float
    """Of the weights after the epoch (their moving average, if the recipe keeps one)."""
    validation_accuracy: float
    seconds: float
    """Duration."""

    def to_json(self) -> dict[str, float]:
        """For `metrics.json`."""
        return asdict(self)


def fit(
    network: "keras.Model",
    *,
    train: LabeledImages,
    validation: LabeledImages,
    recipe: Recipe,
    options: Options,
    reporter: Reporter,
    fresh: Callable[[int], LabeledImages] | None = None,
    weights: losses.Weights | None = None,
    checkpoint: Path | None = None,
    take_best: bool = False,
) -> list[Epoch]:
    """Fit the network's weights in place.

    Args:
        network: as `networks.build` made it.
        train: what the weights are fitted to.
        validation: what is only looked at.
        recipe: loss, schedule, averaging and augmentation.
        options: the rest.
        reporter: told of each epoch.
        fresh: pictures of each epoch, as many as `train` has; None takes those of `train`.
        weights: of the labels in the loss; None counts every picture once.
        checkpoint: folder where each epoch's state is kept until the last, and gone on from.
        take_best: take the best epoch of the checkpoint, and train no further.

    Returns:
        one entry an epoch.

    Raises:
        DivergedError: the loss became NaN or infinite.
    """
    steps = math.ceil(len(train) / options.batch_size)
    optimizer = _optimizer(network, recipe, options, steps)
    network.compile(
        optimizer=optimizer,
        loss=losses.fused(recipe.head, weights),
        metrics=[_accuracy(recipe.head)],
    )
    log = _EpochLog(reporter, options.epochs, checkpoint)
    done = len(log.epochs)
    strange = None
    if recipe.strangers:
        count = max(1, len(train) // _PICTURES_A_STRANGER)
        strange = made_up.make(train.images, recipe.input, options.seed, count=count)
    callbacks = _callbacks(recipe, optimizer)
    best = _Best(log, options.epochs, checkpoint) if recipe.keeps_best else None
    if best is not None:
        callbacks.insert(0, best)  # before the weights are swapped back from their average
        best.set_model(network)
    if best is not None and (take_best or best.is_over):
        best.restore(reporter)
        estimate_statistics(network, train.images)
        return log.epochs
    if checkpoint is not None:
        callbacks.append(keras.callbacks.BackupAndRestore(checkpoint / "state"))
    with reporter.steps("fit", steps * (options.epochs - done)) as advance, remembered() as check:

        def end_step(batch: int, logs: Any) -> None:  # noqa: ARG001 - Keras names them
            advance(1)
            check()

        network.fit(
            _batches(train, fresh, recipe, options, done=done, strange=strange),
            shuffle=False,  # the stream already is
            steps_per_epoch=steps,
            epochs=options.epochs,
            validation_data=(validation.images, _targets(validation.classes, recipe.head)),
            validation_batch_size=1000,
            callbacks=[
                *callbacks,
                log.callback,
                keras.callbacks.LambdaCallback(on_train_batch_end=end_step),
            ],
            verbose=0,
        )
        check()
    _require_convergence(log.epochs, options, is_stopped=best is not None and best.is_stopped)
    if best is not None:
        best.restore(reporter)
    if recipe.disturbed:
        batches = _batches(train, fresh, recipe, options, done=options.epochs, strange=strange)
        estimate_statistics(network, _pictures(batches, math.ceil(_ESTIMATED / options.batch_size)))
    else:
        estimate_statistics(network, train.images)
    return log.epochs


def estimate_statistics(network: "keras.Model", images: Images) -> None:
    """Give each batch normalization the mean and variance of the training part, in place.

    Those that training leaves are moving averages of what earlier weights gave, and after a few
    steps mostly of what none gave: Keras keeps 0.99 of them a step. These are of the weights as
    they are, averaged over large batches (Izmailov et al. 2018, arXiv:1803.05407).

    Args:
        network: as fitted.
        images: uint8, `[n, height, width, channels]`; up to 10,000 of them are used.
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
            layer.momentum = number / (number + 1)  # the mean over the batches so far
        network(images[np.sort(rows)], training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def _pictures(batches: Any, count: int) -> Images:
    """The pictures of the first batches of a stream."""
    return np.concatenate([images for images, _ in batches.take(count).as_numpy_iterator()])


def _require_convergence(epochs: list[Epoch], options: Options, *, is_stopped: bool) -> None:
    is_short = len(epochs) < options.epochs and not is_stopped
    if is_short or not math.isfinite(epochs[-1].loss):
        raise DivergedError(
            f"the loss became NaN or infinite in epoch {len(epochs)}; "
            f"try a --learning-rate below {options.learning_rate:g}"
        )


def _shortened_average(optimizer: Any) -> Any:
    """Let the moving average forget the fresh weights: its momentum is min(m, (1 + t)/(10 + t)).

    As in `tf.train.ExponentialMovingAverage(num_updates=t)`, of step t.
    """
    largest = optimizer.ema_momentum
    momentum = tf.Variable(0.0, trainable=False)
    optimizer.ema_momentum = momentum

    def shorten(batch: int, logs: Any) -> None:  # noqa: ARG001 - Keras names them
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


class _Best(keras.callbacks.Callback):  # type: ignore[misc] # Keras is not typed
    """Keeps the weights that validation was best with, and stops when better ones stay away."""

    def __init__(self, log: "_EpochLog", total: int, checkpoint: Path | None) -> None:
        super().__init__()
        self._log, self._file = log, None if checkpoint is None else checkpoint / _BEST
        self._patience = max(_LEAST_PATIENCE, math.ceil(total / 3))
        self._weights: list[Any] = []
        losses = [epoch.validation_loss for epoch in log.epochs]
        self._least = min(losses, default=math.inf)
        self._total = total
        self.number = 1 + losses.index(self._least) if losses else 0
        """Of the best epoch."""
        self.is_stopped = len(losses) - self.number >= self._patience

    @property
    def is_over(self) -> bool:
        """Whether no epoch is left to train."""
        return self.is_stopped or len(self._log.epochs) >= self._total

    def on_test_end(self, logs: Any = None) -> None:
        """Validation is over: these are the weights that it was run with."""
        epoch = len(self._log.epochs) + 1
        if logs["loss"] < self._least:
            self._least, self.number = logs["loss"], epoch
            self._weights = self.model.get_weights()
            if self._file is not None:
                np.savez(self._file, *self._weights)
        elif epoch - self.number >= self._patience:
            self.is_stopped = self.model.stop_training = True

    def restore(self, reporter: Reporter) -> None:
        """Give the network the best weights, also of before an interruption."""
        reporter.line(f"the weights of epoch {self.number} are taken: the least validation loss")
        if self._weights:
            self.model.set_weights(self._weights)
        elif self._file is not None and self._file.is_file():
            with np.load(self._file) as kept:
                self.model.set_weights([kept[f"arr_{i}"] for i in range(len(kept))])


class _EpochLog:
    """Keeps each epoch's figures and writes a line about it."""

    def __init__(self, reporter: Reporter, total: int, checkpoint: Path | None) -> None:
        self._file = None if checkpoint is None else checkpoint / EPOCHS_FILE
        self.epochs: list[Epoch] = []
        """Of the network's training; also those before it was interrupted."""
        if self._file is not None and self._file.is_file():
            self.epochs = [Epoch(**epoch) for epoch in json.loads(self._file.read_text())]
        self.callback = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: self._begin(),  # noqa: ARG005 - Keras names them
            on_epoch_end=self._end,
            on_train_batch_end=self._step,
        )
        self._reporter = reporter
        self._total = total
        self._epoch = Stopwatch()
        self._compiled = Stopwatch()

    def _begin(self) -> None:
        self._epoch = Stopwatch()

    def _step(self, batch: int, logs: Any) -> None:  # noqa: ARG002 - Keras names it
        if batch == 0 and not self.epochs:
            self._compiled = Stopwatch()  # the first step compiles, and no other does

    def _left(self) -> timedelta:
        """The time of the epochs to come, without that of compiling."""
        later = [epoch.seconds for epoch in self.epochs[1:]]
        each = sum(later) / len(later) if later else self._compiled.seconds
        return timedelta(seconds=round(each * (self._total - len(self.epochs))))

    def _end(self, epoch: int, logs: dict[str, float]) -> None:
        figures = Epoch(
            loss=logs["loss"],
            accuracy=logs["accuracy"],
            # absent when the epoch was ended early by a NaN
            validation_loss=logs.get("val_loss", math.nan),
            validation_accuracy=logs.get("val_accuracy", math.nan),
            seconds=self._epoch.seconds,
        )
        self.epochs.append(figures)
        if self._file is not None:
            self._file.write_text(json.dumps([epoch.to_json() for epoch in self.epochs]))
        self._reporter.line(
            f"epoch {epoch + 1}/{self._total}: loss {figures.loss:.4f}, "
            f"accuracy {figures.accuracy:.4f}, validation loss {figures.validation_loss:.4f}, "
            f"accuracy {figures.validation_accuracy:.4f}, {figures.seconds:.1f} s, "
            f"left {self._left()}"
        )


def _batches(
    train: LabeledImages,
    fresh: Callable[[int], LabeledImages] | None,
    recipe: Recipe,
    options: Options,
    *,
    done: int = 0,
    strange: Images | None = None,
) -> Any:
    """An endless stream of shuffled batches, the same for the same seed, after `done` epochs."""
    steps = math.ceil(len(train) / options.batch_size)
    targets = _targets(train.classes, recipe.head)
    if fresh is None:
        batches = (
            tf.data.Dataset.from_tensor_slices((train.images, targets))
            .shuffle(len(train), seed=options.seed)
            .batch(options.batch_size)
            .repeat()
            .skip(done * steps)
        )
    else:

        def stream() -> Iterator[tuple[Any, Any]]:
            for number in count(done):
                part = fresh(number)
                for start in range(0, len(part), options.batch_size):
                    batch = part[start : start + options.batch_size]
                    yield batch.images, _targets(batch.classes, recipe.head)

        signature = tuple(
            tf.TensorSpec((None, *array.shape[1:]), array.dtype)
            for array in (train.images, targets)
        )
        batches = tf.data.Dataset.from_generator(stream, output_signature=signature)
    if recipe.augmentation is not None:
        varying = _varying(recipe.augmentation, options.seed, options.epochs * steps)
        batches = batches.enumerate(done * steps).map(varying)
    if recipe.disturbed:
        batches = batches.enumerate(done * steps).map(_disturbing(recipe, options, strange))
    return batches.prefetch(4)


def _varying(augmentation: Augmentation, seed: int, steps: int) -> Any:
    """What is done to each numbered batch of a training of so many `steps`."""
    varied_steps = round(augmentation.until * steps)

    def vary_batch(step: Any, batch: tuple[Any, Any]) -> tuple[Any, Any]:
        images, targets = batch
        seeds = tf.stack([tf.constant(seed, tf.int64), step])
        varied = tf.cond(
            step < varied_steps, lambda: vary(images, augmentation, seeds), lambda: images
        )
        return varied, targets

    return vary_batch


def _disturbing(recipe: Recipe, options: Options, strange: Images | None) -> Any:
    """What a recipe that disturbs does to each numbered batch: strangers come last."""
    count = round(recipe.strangers * options.batch_size)

    def mixed(images: Images, classes: Classes, step: Any) -> tuple[Images, Classes]:
        generator = np.random.default_rng([options.seed, int(step)])
        disturbed = round(recipe.disturbed * len(images))
        parts = [disturb(images[:disturbed], generator), images[disturbed:]]
        if strange is not None:
            found = strange[generator.integers(len(strange), size=count)]
            parts += [disturb(found[: count // 2], generator), found[count // 2 :]]
            classes = np.append(classes, np.full(count, len(recipe.labels)))
        return np.concatenate(parts), classes

    def mix_batch(step: Any, batch: tuple[Any, Any]) -> tuple[Any, Any]:
        images, targets = tf.numpy_function(mixed, [*batch, step], [tf.uint8, tf.int64])
        images.set_shape((None, *recipe.input.shape))
        targets.set_shape((None,))
        return images, targets

    return mix_batch


def _targets(classes: Classes, head: Head) -> Any:
    """What the loss compares logits with: class indices `[n]`, else 0 or 1 `[n, logits]`."""
    if head is Head.SOFTMAX:
        return classes
    return classes.reshape(len(classes), -1).astype("float32")


def _accuracy(head: Head) -> Any:
    if head is Head.SOFTMAX:
        return keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    return keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)  # of logits: p > 1/2


def _optimizer(network: "keras.Model", recipe: Recipe, options: Options, steps: int) -> Any:
    """The optimizer of `options`; `steps` are those of one epoch."""
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
    # Biases and the scales of batch normalization have nothing to gain from being small.
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
