from dataclasses import replace

import numpy as np
import numpy.typing as npt

from logitserve_training import drawings
from logitserve_training.augment import bend, relight, vary
from logitserve_training.backend import tf
from logitserve_training.recipes import Augmentation

STILL = Augmentation(rotation=0, scale=0, shear=0, shift=0, elastic=0)


def digits() -> npt.NDArray[np.uint8]:
    return np.stack([np.asarray(drawings.draw(digit, seed=1).convert("L")) for digit in range(10)])[
        ..., None
    ]


def bent(
    images: npt.NDArray[np.uint8], augmentation: Augmentation, seed: int = 0
) -> npt.NDArray[np.uint8]:
    found: npt.NDArray[np.uint8] = bend(
        tf.constant(images), augmentation, tf.constant([seed, 0], tf.int64)
    ).numpy()
    return found


def center_of_mass(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    rows, columns = np.indices(image.shape[:2])
    weights = image[..., 0].astype(float)
    center: npt.NDArray[np.float64] = (
        np.array([(rows * weights).sum(), (columns * weights).sum()]) / weights.sum()
    )
    return center


def test_bent_by_nothing_is_unchanged() -> None:
    np.testing.assert_array_equal(bent(digits(), STILL), digits())


def test_pictures_need_not_be_square_or_gray() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 14, 3), dtype=np.uint8)
    np.testing.assert_array_equal(bent(images, STILL), images)
    assert bent(
        images, Augmentation(rotation=9, scale=0.1, shear=0.1, shift=1, elastic=1)
    ).shape == (images.shape)


def test_the_seed_decides_how_and_each_picture_is_bent_on_its_own() -> None:
    augmentation = Augmentation(rotation=10, scale=0.1, shear=0.1, shift=2, elastic=1)
    same = np.repeat(digits()[:1], 5, axis=0)
    first, again, other = (bent(same, augmentation, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert len({image.tobytes() for image in first}) == 5


def test_a_shift_moves_the_whole_digit_by_no_more_than_was_asked() -> None:
    before = digits()
    after = bent(before, Augmentation(rotation=0, scale=0, shear=0, shift=2, elastic=0))
    moves = [center_of_mass(a) - center_of_mass(b) for a, b in zip(after, before, strict=True)]
    assert 1 < np.abs(moves).max() <= 2.05


def test_a_turn_keeps_the_middle_and_the_ink() -> None:
    before = digits()
    after = bent(before, Augmentation(rotation=15, scale=0, shear=0, shift=0, elastic=0))
    assert (before != after).any(axis=(1, 2, 3)).all()
    for image, turned in zip(before, after, strict=True):
        distances = [np.linalg.norm(center_of_mass(x) - 13.5) for x in (image, turned)]
        assert abs(distances[0] - distances[1]) < 0.1
    np.testing.assert_allclose(
        before.sum(axis=(1, 2, 3), dtype=int), after.sum(axis=(1, 2, 3), dtype=int), rtol=0.03
    )


def test_an_elastic_field_bends_differently_in_different_places() -> None:
    ramp = np.tile(np.arange(28, dtype=np.uint8) * 9, (28, 1))[None, ..., None]
    field = (
        bent(ramp, Augmentation(rotation=0, scale=0, shear=0, shift=0, elastic=1)) / 9 - ramp / 9
    )
    inside = field[0, 4:-4, 4:-4, 0]
    assert 0.3 < inside.std() < 2


def test_half_of_the_pictures_are_mirrored_where_that_is_asked() -> None:
    images = np.random.default_rng(0).integers(0, 256, (200, 4, 5, 3), dtype=np.uint8)
    augmentation = replace(STILL, flip=True)
    varied = vary(tf.constant(images), augmentation, tf.constant([1, 0], tf.int64)).numpy()
    mirrored = (varied == images[:, :, ::-1]).all(axis=(1, 2, 3))
    same = (varied == images).all(axis=(1, 2, 3))
    assert (mirrored | same).all()
    assert 70 < mirrored.sum() < 130


def test_light_contrast_and_balance_vary_and_the_picture_stays() -> None:
    ramp = np.tile(np.arange(64, 192, 4, dtype=np.uint8)[:, None], (50, 8, 1, 3))
    varied = relight(tf.constant(ramp), 0.3, tf.constant([1, 0], tf.int64)).numpy().astype(float)
    means = varied.mean(axis=(1, 2))  # [pictures, channels]
    light = means.mean(axis=1) / ramp.mean()
    assert 0.6 < light.min() < 0.85
    assert 1.15 < light.max() < 1.7
    assert (np.abs(means / means.mean(axis=1, keepdims=True) - 1)).max() > 0.05
    assert (np.diff(varied, axis=2) >= 0).all()
    unchanged = relight(tf.constant(ramp), 0.0, tf.constant([1, 0], tf.int64)).numpy()
    np.testing.assert_array_equal(unchanged, ramp)
