"""Network architectures: uint8 pictures in, logits out; the first layer scales the pixels.

No network ends in a softmax or sigmoid: the loss takes logits, and serving applies the head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self

import numpy as np

from logitserve.inference.predictor import INPUT, OUTPUT
from logitserve_training.backend import keras
from logitserve_training.datasets.dataset import Images
from logitserve_training.recipes import NetworkName

Tensor = Any
"""A symbolic Keras tensor."""

STANDARDIZED: Final = "standardized"
"""Name of the layer that standardizes: mean 0 and standard deviation 1 over the training part."""

_SMALL_MAP: Final = 8
"""Maximum size of the scene network's final feature map along the shorter side."""


@dataclass(frozen=True, slots=True)
class PixelStatistics:
    """Mean and standard deviation over all pixels of the training part, in units of 0 to 1."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, images: Images) -> Self:
        """Compute the statistics of pictures."""
        counts = np.bincount(images.ravel(), minlength=256)
        levels = np.arange(256) / 255
        mean = float(np.average(levels, weights=counts))
        variance = float(np.average((levels - mean) ** 2, weights=counts))
        return cls(mean, max(variance**0.5, 1 / 255))  # constant pictures are not scaled up


def build(
    name: NetworkName,
    *,
    shape: tuple[int, int, int],
    logits: int,
    statistics: PixelStatistics,
    novelty_units: int = 0,
) -> "keras.Model":
    """Build a network with fresh weights.

    Args:
        name: name of the architecture.
        shape: height, width, channels of the uint8 pictures.
        logits: width of the output.
        statistics: for the standardization of the pixels.
        novelty_units: hidden units on the pixels for an additional last column, the log-odds of no
            label against all labels; 0: no such column.
    """
    image = keras.Input(shape, dtype="uint8", name=INPUT)
    # Flattened for scaling: with a last axis of 1 onnxruntime takes 50 ns per pixel, 40 µs a digit.
    x = keras.layers.Flatten()(image)
    x = keras.layers.Rescaling(
        scale=1 / (255 * statistics.deviation),
        offset=-statistics.mean / statistics.deviation,
        name=STANDARDIZED,
    )(x)
    body = _BODIES[name](keras.layers.Reshape(shape)(x))
    if not novelty_units:
        return keras.Model(image, keras.layers.Dense(logits, name=OUTPUT)(body), name=name.value)
    of_labels = keras.layers.Dense(logits, name=OUTPUT)(body)
    of_none = keras.layers.Dense(1)(keras.layers.Dense(novelty_units, activation="relu")(x))
    output = keras.layers.Concatenate()([of_labels, of_none])
    return keras.Model(image, output, name=name.value)


def with_novelty(network: "keras.Model") -> "keras.Model":
    """Replace the last logit, of the class without a label, by its log-odds against the labels."""
    logits = network.output
    others = keras.ops.logsumexp(logits[:, :-1], axis=1, keepdims=True)
    output = keras.layers.Concatenate(name="with_novelty")(
        [logits[:, :-1], logits[:, -1:] - others]
    )
    return keras.Model(network.input, output, name=network.name)


def _linear(x: Tensor) -> Tensor:
    return keras.layers.Flatten()(x)


def _mlp(x: Tensor) -> Tensor:
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(25, activation="relu")(x)
    return keras.layers.Dense(15, activation="relu")(x)


def _residual_cnn(x: Tensor, widths: tuple[int, ...] = (64, 64)) -> Tensor:
    x = _convolution(x, filters=32, size=5, strides=2)  # [14, 14, 32]
    x = keras.layers.ReLU()(x)
    for index, filters in enumerate(widths):  # [7, 7, filters]
        x = _residual_block(x, filters=filters, strides=1 if index else 2)
    return keras.layers.GlobalAveragePooling2D()(x)


def _cnn(x: Tensor) -> Tensor:
    """Convolutions without residual connections."""
    for filters in (16, 32, 48):
        x = keras.layers.ReLU()(_convolution(x, filters=filters, size=3))
        x = keras.layers.MaxPooling2D(2, padding="same")(x)
    return keras.layers.GlobalAveragePooling2D()(x)


def _scene_cnn(x: Tensor, widths: tuple[int, int, int] = (32, 48, 64)) -> Tensor:
    """Blocks until the map is small; global max pooling detects objects anywhere in the picture."""
    x = _convolution(x, filters=widths[0], size=5, strides=2)
    x = keras.layers.ReLU()(x)
    x = _residual_block(x, filters=widths[1], strides=2)
    while min(x.shape[1:3]) > _SMALL_MAP:
        x = _residual_block(x, filters=widths[2], strides=2)
    x = _residual_block(x, filters=widths[2])
    pooled = [keras.layers.GlobalMaxPooling2D()(x), keras.layers.GlobalAveragePooling2D()(x)]
    return keras.layers.Concatenate()(pooled)


def _photo_cnn(x: Tensor) -> Tensor:
    """The scene network on standardized pictures, insensitive to brightness."""
    x = _scene_cnn(_SameLight()(x), widths=(16, 32, 48))
    return keras.layers.Dropout(0.2, seed=0)(x)


def _residual_block(x: Tensor, *, filters: int, strides: int = 1) -> Tensor:
    """Two convolutions with a residual connection (He et al. 2015, arXiv:1512.03385)."""
    shortcut = x
    if strides > 1:
        shortcut = keras.layers.AveragePooling2D(strides, padding="same")(x)
    if shortcut.shape[-1] != filters:
        shortcut = _convolution(shortcut, filters=filters, size=1)
    x = _convolution(x, filters=filters, size=3, strides=strides)
    x = keras.layers.ReLU()(x)
    x = _convolution(x, filters=filters, size=3)
    return keras.layers.ReLU()(keras.layers.Add()([x, shortcut]))


def _convolution(x: Tensor, *, filters: int, size: int, strides: int = 1) -> Tensor:
    """Convolution with batch normalization, which is folded into the weights on export."""
    x = keras.layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False)(x)
    return keras.layers.BatchNormalization()(x)


class _SameLight(keras.layers.Layer):  # type: ignore[misc]
    """Standardizes each picture to mean 0 and standard deviation 1.

    Keras's GroupNormalization computes the mean of squares minus the squared mean, which loses
    three digits of precision on a nearly white page.
    """

    def call(self, images: Tensor) -> Tensor:
        centered = images - self._mean(images)
        return centered * keras.ops.rsqrt(self._mean(keras.ops.square(centered)) + 1e-3)

    def _mean(self, images: Tensor) -> Tensor:
        # One axis at a time: over all of them onnxruntime sums 14,400 numbers sequentially, and the
        # error of the probabilities is 1e-5.
        for axis in (2, 1, 3):
            images = keras.ops.mean(images, axis=axis, keepdims=True)
        return images


_BODIES: Final[dict[NetworkName, Callable[[Tensor], Tensor]]] = {
    NetworkName.LINEAR: _linear,
    NetworkName.MLP: _mlp,
    NetworkName.RESIDUAL_CNN: _residual_cnn,
    NetworkName.DEEP_RESIDUAL_CNN: partial(_residual_cnn, widths=(48, 64, 64)),
    NetworkName.CNN: _cnn,
    NetworkName.SCENE_CNN: _scene_cnn,
    NetworkName.PHOTO_CNN: _photo_cnn,
}
