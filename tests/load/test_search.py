from hypothesis import given
from hypothesis import strategies as st

from tests.load.search import FIRST_RATE, PRECISION, Search, Step, percentile


def step(rate: float, capacity: float) -> Step:
    p99 = 8.0 if rate <= capacity else 80.0
    return Step(offered=rate, reached=rate, p50=2.0, p95=5.0, p99=p99, failures=0)


def searched(capacity: float, highest: float = 1e6) -> Search:
    search = Search(limit_ms=50, highest=highest)
    while (rate := search.next_rate) is not None:
        assert len(search.steps) < 80
        search.steps.append(step(rate, capacity))
    return search


@given(st.floats(min_value=2, max_value=100_000))
def test_the_knee_is_found_as_precisely_as_promised(capacity: float) -> None:
    knee = searched(capacity).knee
    assert knee is not None
    assert knee.offered <= capacity <= knee.offered * PRECISION


def test_a_service_that_stands_everything_is_asked_up_to_the_highest_rate() -> None:
    knee = searched(1e9, highest=700).knee
    assert knee is not None
    assert knee.offered == 700


def test_a_single_hiccup_does_not_end_the_search() -> None:
    search = Search(limit_ms=50, highest=1e6)
    search.steps.append(step(FIRST_RATE, capacity=0))
    while (rate := search.next_rate) is not None:
        search.steps.append(step(rate, capacity=1000))
    assert search.knee is not None
    assert search.knee.offered * PRECISION >= 1000


def test_a_service_that_stands_nothing_has_no_knee() -> None:
    assert searched(0).knee is None


def test_a_rate_that_is_not_reached_or_fails_is_not_stood() -> None:
    assert Step(100, 100, 1, 1, 1, 0).good(50)
    assert not Step(100, 94, 1, 1, 1, 0).good(50)
    assert not Step(100, 100, 1, 1, 50, 0).good(50)
    assert not Step(100, 100, 1, 1, 1, 1).good(50)


@given(st.lists(st.integers(0, 1000), min_size=1), st.floats(0.01, 1))
def test_a_percentile_of_counts_is_that_of_the_values(values: list[int], share: float) -> None:
    counts = {value: values.count(value) for value in values}
    found = percentile(counts, share)
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)
