import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitserve_training.datasets.dataset import Dataset, LabeledImages, stratified_split


def numbered(classes: list[int]) -> LabeledImages:
    """Pictures of one pixel, each the number of its row."""
    images = np.arange(len(classes), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return LabeledImages(images, np.array(classes, dtype=np.int64))


@given(
    classes=st.lists(st.integers(0, 4), min_size=2, max_size=200),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_split_parts_the_pictures_and_keeps_the_shares(
    classes: list[int], share: float, seed: int
) -> None:
    data = numbered(classes)
    held_out = round(share * len(data))
    rest, held = stratified_split(data, held_out=held_out, seed=seed)

    assert len(held) == held_out
    assert sorted([*rest.images.ravel(), *held.images.ravel()]) == list(range(len(data)))
    for part in (rest, held):
        assert part.classes.tolist() == [classes[row] for row in part.images.ravel()]
    for index, count in enumerate(np.bincount(data.classes)):
        assert abs((held.classes == index).sum() - count * held_out / len(data)) < 1


def test_the_seed_decides_which_pictures_are_held_out() -> None:
    data = numbered([0, 1] * 50)
    first, again, other = (
        stratified_split(data, held_out=10, seed=seed)[1].images.tolist() for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.fixture
def dataset() -> Dataset:
    train, validation, test = map(numbered, ([0, 1, 2, 2], [2, 0], [1]))
    return Dataset("numbers", "0" * 64, train, validation, test)


def test_regrouping_gives_every_part_its_new_classes(dataset: Dataset) -> None:
    regrouped = dataset.regrouped((1, 0, 0))
    assert regrouped.train.classes.tolist() == [1, 0, 0, 0]
    assert regrouped.validation.classes.tolist() == [0, 1]
    assert regrouped.test.classes.tolist() == [0]
    assert regrouped.train.images is dataset.train.images


def test_the_card_entry_counts_the_parts(dataset: Dataset) -> None:
    info = dataset.info
    assert (info.name, info.train, info.validation, info.test) == ("numbers", 4, 2, 1)
