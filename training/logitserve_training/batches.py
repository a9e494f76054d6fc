"""Training batches: a stream of augmented and disturbed batches, determined by the seed."""

import math
from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np

from logitserve.inference.card import Head
from logitserve_training.augment import vary
from logitserve_training.backend import tf
from logitserve_training.datasets.dataset import Classes, Dataset, Images
from logitserve_training.disturb import disturb
from logitserve_training.recipes import Augmentation, Options, Recipe


def batches_of(
    dataset: Dataset,
    recipe: Recipe,
    options: Options,
    *,
    done: int = 0,
    strange: Images | None = None,
) -> Any:
    """Return an endless stream of shuffled batches, determined by the seed, after `done` epochs."""
    train, fresh = dataset.train, dataset.fresh
    steps = math.ceil(len(train) / options.batch_size)
    targets = targets_of(train.classes, recipe.head)
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
                    yield batch.images, targets_of(batch.classes, recipe.head)

        signature = tuple(
            tf.TensorSpec((None, *array.shape[1:]), array.dtype)
            for array in (train.images, targets)
        )
        batches = tf.data.Dataset.from_generator(stream, output_signature=signature)
    if recipe.augmentation is not None:
        varying = _varying(recipe.augmentation, options.seed, options.epochs * steps)
        batches = batches.enumerate(done * steps).map(varying)
    if recipe.disturbed or recipe.negatives:
        batches = batches.enumerate(done * steps).map(_disturbing(recipe, options, strange))
    return batches.prefetch(4)


def _varying(augmentation: Augmentation, seed: int, steps: int) -> Any:
    """Return the augmentation of each numbered batch, for a training of `steps`."""
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
    """Return the disturbance of each numbered batch; negatives come last."""
    count = round(recipe.negatives * options.batch_size)

    def mixed(images: Images, targets: Any, step: Any) -> tuple[Images, Any]:
        generator = np.random.default_rng([options.seed, int(step)])
        disturbed = round(recipe.disturbed * len(images))
        parts = [disturb(images[:disturbed], generator), images[disturbed:]]
        if strange is not None:
            found = strange[generator.integers(len(strange), size=count)]
            half = count // 2 if recipe.disturbed else 0
            parts += [disturb(found[:half], generator), found[half:]]
            none = np.full((count, *targets.shape[1:]), len(recipe.labels), targets.dtype)
            targets = np.concatenate([targets, none])
        return np.concatenate(parts), targets

    def mix_batch(step: Any, batch: tuple[Any, Any]) -> tuple[Any, Any]:
        images, targets = tf.numpy_function(mixed, [*batch, step], [tf.uint8, batch[1].dtype])
        images.set_shape((None, *recipe.input.shape))
        targets.set_shape((None, *batch[1].shape[1:]))
        return images, targets

    return mix_batch


def targets_of(classes: Classes, head: Head) -> Any:
    """Return the targets of the loss: class indices `[n]`, else 0 or 1 `[n, logits]`."""
    if head is Head.SOFTMAX:
        return classes
    return classes.reshape(len(classes), -1).astype("float32")


def pictures_of(batches: Any, count: int) -> Images:
    """Return the pictures of the first batches of a stream."""
    return np.concatenate([images for images, _ in batches.take(count).as_numpy_iterator()])
