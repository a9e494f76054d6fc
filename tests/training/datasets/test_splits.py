import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from logitserve_training.datasets.splits import stratified

SHARES = (0.7, 0.15, 0.15)


@example(seed=686, labels=5, is_exclusive=False)  # the greedy parting alone is off by 5.5
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), labels=st.integers(1, 5), is_exclusive=st.booleans())
def test_every_label_has_its_share_in_every_part(
    seed: int, labels: int, *, is_exclusive: bool
) -> None:
    generator = np.random.default_rng(seed)
    outcomes = (generator.random((200, labels)) < generator.uniform(0.05, 0.9, labels)).astype(int)
    if is_exclusive:
        outcomes = np.eye(labels, dtype=int)[generator.integers(labels, size=200)]
    parts = stratified(outcomes, SHARES)
    assert sorted(np.concatenate(parts)) == list(range(200))
    for rows, share in zip(parts, SHARES, strict=True):
        slack = 1.0 if is_exclusive else 4.0
        assert np.abs(outcomes[rows].sum(axis=0) - share * outcomes.sum(axis=0)).max() <= slack
        assert list(rows) == sorted(rows)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(3, 30))
def test_groups_stay_whole_and_no_part_is_empty(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    groups = np.concatenate([np.arange(count), generator.integers(count, size=100)])
    outcomes = generator.integers(0, 2, (len(groups), 3))
    parts = stratified(outcomes, SHARES, groups=groups)
    assert sum(len(rows) for rows in parts) == len(groups)
    assert all(len(rows) for rows in parts)
    held = [set(groups[rows]) for rows in parts]
    assert not held[0] & held[1] | held[0] & held[2] | held[1] & held[2]


def test_the_largest_group_is_trained_on() -> None:
    groups = np.repeat([0, 1, 2], [30, 10, 6])
    train, validation, test = stratified(np.ones((46, 1), int), SHARES, groups=groups)
    assert set(groups[train]) == {0}
    assert {len(validation), len(test)} == {10, 6}


def test_the_split_is_always_the_same() -> None:
    outcomes = np.random.default_rng(0).integers(0, 2, (50, 2))
    for one, again in zip(*(stratified(outcomes, SHARES) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize("count", [3, 4, 7])
def test_few_pictures_still_make_three_parts(count: int) -> None:
    assert all(len(rows) for rows in stratified(np.ones((count, 1), int), SHARES))
