"""Values of a process, read by another while it lives and when it has been killed."""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitserve_service.telemetry.shared_values import MAX_VALUES, Row, Series, shared_rows

FORK = multiprocessing.get_context("fork")


def count(row: Row, series: Series) -> None:
    values, (place,) = row.places(series, 1)
    values[place] += 1


def counted(rows: Sequence[Row], series: Series) -> list[float]:
    """What each row has of a series of one value."""
    found = [(row, row.series().get(series)) for row in rows]
    return [row.values[places[0]] if places else 0 for row, places in found]


def worker(row: Row, ready: Connection) -> None:
    count(row, ("requests", "a"))
    ready.send(None)
    signal.pause()


def test_counts_outlive_their_processes_which_go_on_where_others_ended() -> None:
    rows = shared_rows(2)
    for number, expected in ((0, [1, 0]), (1, [1, 1]), (0, [2, 1])):
        ready, readying = FORK.Pipe(duplex=False)
        process = FORK.Process(target=worker, args=(rows[number], readying))
        process.start()
        ready.recv()
        assert counted(rows, ("requests", "a")) == expected
        process.kill()
        process.join()
        assert counted(rows, ("requests", "a")) == expected


NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), min_size=1).map(
    tuple
)


@given(st.lists(st.tuples(NAMES, st.integers(1, 20)), unique_by=lambda pair: pair[0]))
def test_every_series_has_places_of_its_own(given: list[tuple[Series, int]]) -> None:
    (row,) = rows = shared_rows(1)
    for number, (series, width) in enumerate(given):
        values, places = row.places(series, width)
        assert [values[place] for place in places] == [0] * width
        for place in places:
            values[place] = number
    other = Row(memoryview(bytearray(row.memory)))  # as a process that has read nothing yet
    for reader in (rows[0], other):
        found = reader.series()
        assert list(found) == [series for series, _ in given]
        for number, (series, width) in enumerate(given):
            assert row.places(series, width)[1] == found[series]
            assert [reader.values[place] for place in found[series]] == [number] * width


def test_a_series_without_room_is_not_counted(caplog: pytest.LogCaptureFixture) -> None:
    (row,) = shared_rows(1)
    row.places(("large",), MAX_VALUES - 70)
    count(row, ("fits",))
    row.places(("large, too",), 40)
    for name in ("a", "b"):
        values, places = row.places((name,), 20)
        for place in places:
            values[place] += 1
    assert list(row.series()) == [("large",), ("fits",)]
    assert counted([row], ("fits",)) == [1]
    assert len(caplog.records) == 1


def test_a_beat_shows_that_a_worker_lives() -> None:
    (row,) = shared_rows(1)
    assert row.beats == 0
    child = os.fork()
    if not child:
        row.beat()
        os._exit(0)
    os.waitpid(child, 0)
    assert row.beats == 1
    row.drop()
    assert row.beats == 0
