"""Disturbances, of the training and held out, and what is made up to be no digit."""

import numpy as np
import pytest

from logitserve_training import corruptions, disturb, recipes, synthetic_negatives
from logitserve_training.datasets.dataset import Images
from logitserve_training.drawings import draw


@pytest.fixture(scope="module")
def digits() -> Images:
    return np.stack([np.asarray(draw(seed % 10, seed=seed))[..., :1] for seed in range(30)])


def test_each_family_changes_each_picture_in_its_own_way(digits: Images) -> None:
    same = np.repeat(digits[:1], 30, axis=0)
    for family in disturb.FAMILIES:
        found = disturb.by_family(family, same)
        assert found.shape == same.shape, family
        assert found.dtype == np.uint8, family
        assert (found != same).any(axis=(1, 2, 3)).mean() > 0.5, family
        assert len({picture.tobytes() for picture in found}) > 1, family
        np.testing.assert_array_equal(found, disturb.by_family(family, same))


def test_chains_come_from_the_generator_alone(digits: Images) -> None:
    one, other, third = (disturb.disturb(digits, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, other)
    assert (one != third).any(axis=(1, 2, 3)).mean() > 0.9
    assert (one != digits).any(axis=(1, 2, 3)).mean() > 0.9


@pytest.mark.parametrize("shape", [(28, 28, 1), (40, 56, 3)])
@pytest.mark.parametrize("kind", corruptions.KINDS)
def test_corruptions_suit_any_size_and_are_the_same_each_time(
    kind: str, shape: tuple[int, int, int]
) -> None:
    images = np.zeros((4, *shape), np.uint8)
    height, width = shape[:2]
    images[:, height // 4 : -height // 4, width // 3 : -width // 3] = 200
    found = corruptions.corrupted(kind, images)
    assert found.shape == images.shape
    assert found.dtype == np.uint8
    assert (found != images).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(found, corruptions.corrupted(kind, images))
    assert (found == found[..., :1]).all()  # a gray picture stays gray


def test_corruptions_of_mnist_c_are_those_that_were_published(digits: Images) -> None:
    """What of them does not depend on chance, worked out by hand."""
    image = digits[:1]
    stripe = corruptions.corrupted("stripe", image)
    np.testing.assert_allclose(stripe[:, :, 7:21], image[:, :, 7:21], atol=1)
    np.testing.assert_allclose(stripe[:, :, :7], 255 - image[:, :, :7], atol=1)
    np.testing.assert_allclose(stripe[:, :, 21:], 255 - image[:, :, 21:], atol=1)
    bright = corruptions.corrupted("brightness", image)
    np.testing.assert_allclose(bright, np.minimum(image + 127.5, 255), atol=1)
    moved = corruptions.corrupted("translate", digits)
    places = [np.roll(digits, (down, across), (1, 2)) for down in (-3, 3) for across in (-3, 3)]
    apart = [abs(moved.astype(int) - place).mean(axis=(1, 2, 3)) for place in places]
    assert np.min(apart, axis=0).max() < 3
    impulses = corruptions.corrupted("impulse noise", np.full((50, 28, 28, 1), 99, np.uint8))
    assert np.mean(impulses == 255) == pytest.approx(0.085, abs=0.01)
    assert np.mean(impulses == 0) == pytest.approx(0.085, abs=0.01)
    block = np.zeros((1, 28, 28, 1), np.uint8)
    block[:, 8:20, 8:20] = 255
    edges = corruptions.corrupted("canny edges", block)[0, ..., 0] > 0
    assert edges.any()
    assert not edges[11:17, 11:17].any()
    assert not edges[:6].any()


def test_at_least_six_kinds_are_held_out_altogether() -> None:
    held_out = [kind for kind, found in corruptions.KINDS.items() if found.like is None]
    assert len(held_out) >= 6
    likes = {found.like for found in corruptions.KINDS.values()} - {None}
    assert likes <= set(disturb.FAMILIES)


def test_what_is_made_up_is_new_each_time_and_the_same_for_a_seed(digits: Images) -> None:
    spec = recipes.find("digits").input
    one, other, third = (
        synthetic_negatives.make(digits, spec, seed, count=3) for seed in (0, 0, 1)
    )
    assert one.shape == (27, 28, 28, 1)
    np.testing.assert_array_equal(one, other)
    assert (one != third).any()
    assert len({picture.tobytes() for picture in one}) > 20


@pytest.mark.parametrize("name", [*disturb.FAMILIES, *corruptions.KINDS])
def test_a_picture_is_disturbed_whatever_its_neighbors_are(digits: Images, name: str) -> None:
    alone = digits[:8].copy()
    alone[1:] = 0
    make = disturb.by_family if name in disturb.FAMILIES else corruptions.corrupted
    one, other = (make(name, images)[0] for images in (digits[:8], alone))
    if name != "ghost":  # which is one of them
        np.testing.assert_allclose(one, other, atol=1)
