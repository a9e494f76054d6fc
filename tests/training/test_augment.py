import numpy as np
import numpy.typing as npt

from training import drawings
from training.augment import bend
from training.backend import tf
from training.recipes import Augmentation

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
