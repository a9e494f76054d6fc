"""Random data augmentation of training pictures: mirroring, deformation, brightness and color.

The displacement is a random affine map plus a smooth random field (Simard, Steinkraus, Platt
2003, "Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis").
"""

import math
from typing import Any, Final

from logitserve_training.backend import tf
from logitserve_training.recipes import Augmentation

Tensor = Any

_FLIP: Final = 1_000_003
_LIGHT: Final = 2_000_003
"""Added to the seed of the deformation."""
_FIELD_NODES: Final = 6
"""Random displacements per side, between which the field is interpolated."""


def vary(images: Tensor, augmentation: Augmentation, seed: Tensor) -> Tensor:
    """Mirror, deform and relight each picture of a batch, as configured.

    `images` and the result are uint8, `[n, height, width, channels]`; `seed` is int64, `[2]`; equal
    seeds give equal pictures.
    """
    if augmentation.flip:
        is_mirrored = _uniform([tf.shape(images)[0], 1, 1, 1], seed + _FLIP) < 0
        images = tf.where(is_mirrored, images[:, :, ::-1], images)
    images = bend(images, augmentation, seed)
    return relight(images, augmentation.color, seed + _LIGHT) if augmentation.color else images


def relight(images: Tensor, color: float, seed: Tensor) -> Tensor:
    """Change brightness, contrast and (half as much) color balance of each picture.

    Each factor is between exp(−color) and exp(color).
    """
    count, channels = tf.shape(images)[0], images.shape[-1]
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    balance, contrast, light = (
        tf.exp(color * strength * _uniform([count, 1, 1, width], each))
        for strength, width, each in zip((0.5, 1, 1), (channels, 1, 1), seeds, strict=True)
    )
    balanced = tf.cast(images, tf.float32) * balance
    mean = tf.reduce_mean(balanced, axis=[1, 2, 3], keepdims=True)
    varied = (balanced - mean) * contrast + mean * light
    return tf.cast(tf.clip_by_value(tf.round(varied), 0, 255), tf.uint8)


def bend(images: Tensor, augmentation: Augmentation, seed: Tensor) -> Tensor:
    """Deform each picture of a batch independently; pixels beyond the border repeat the border."""
    count, height, width = tf.unstack(tf.shape(images)[:3])
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    rows, columns = tf.meshgrid(
        tf.range(height, dtype=tf.float32), tf.range(width, dtype=tf.float32), indexing="ij"
    )
    center = tf.cast(tf.stack([height - 1, width - 1]), tf.float32) / 2
    grid = tf.reshape(tf.stack([rows, columns], axis=-1), [-1, 2]) - center  # [h·w, 2]

    shift = augmentation.shift * _uniform([count, 1, 2], seeds[0])
    source = tf.einsum("nij,pj->npi", _linear_maps(count, augmentation, seeds[1]), grid)
    field = tf.image.resize(
        augmentation.elastic
        * tf.random.stateless_normal([count, _FIELD_NODES, _FIELD_NODES, 2], seeds[2]),
        [height, width],
        method="bicubic",
    )
    source = source + center + shift + tf.reshape(field, [count, -1, 2])  # [n, h·w, 2]
    return _sampled(images, source, height, width)


def _linear_maps(count: Tensor, augmentation: Augmentation, seed: Tensor) -> Tensor:
    """Return random rotations, scalings and shears of (row, column), `[n, 2, 2]`."""
    angle, row_scale, column_scale, slant = tf.unstack(_uniform([4, count], seed))
    angle = angle * math.radians(augmentation.rotation)
    slant = slant * augmentation.shear
    row_scale = 1 + augmentation.scale * row_scale
    column_scale = 1 + augmentation.scale * column_scale
    cos, sin = tf.cos(angle), tf.sin(angle)
    # rotation · [[row_scale, 0], [slant, column_scale]]
    maps = [
        [cos * row_scale - sin * slant, -sin * column_scale],
        [sin * row_scale + cos * slant, cos * column_scale],
    ]
    return tf.transpose(tf.stack([tf.stack(row) for row in maps]), [2, 0, 1])


def _sampled(images: Tensor, source: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Return bilinear samples of each picture at the points (row, column), `[n, h·w, 2]`."""
    last = tf.cast(tf.stack([height - 1, width - 1]), tf.float32)
    source = tf.clip_by_value(source, 0.0, last)
    low = tf.minimum(tf.floor(source), last - 1)
    row_share, column_share = tf.split(source - low, 2, axis=-1)  # [n, h·w, 1]
    row, column = tf.unstack(tf.cast(low, tf.int32), axis=-1)
    flat = tf.cast(
        tf.reshape(images, [tf.shape(images)[0], height * width, images.shape[-1]]), tf.float32
    )

    def at(rows: Tensor, columns: Tensor) -> Tensor:
        return tf.gather(flat, rows * width + columns, batch_dims=1)

    above = at(row, column) * (1 - column_share) + at(row, column + 1) * column_share
    below = at(row + 1, column) * (1 - column_share) + at(row + 1, column + 1) * column_share
    mixed = above * (1 - row_share) + below * row_share
    return tf.reshape(tf.cast(tf.round(mixed), tf.uint8), tf.shape(images))


def _uniform(shape: list[Any], seed: Tensor) -> Tensor:
    """Return uniform random numbers from -1 to 1."""
    return tf.random.stateless_uniform(shape, seed, minval=-1.0, maxval=1.0)
