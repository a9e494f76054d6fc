"""A part of the hunt: what was found once, and a few of each kind."""

from itertools import chain

from tests.hunt.__main__ import hunting, known, rounds

SEEDS = 1


def test_no_input_costs_more_than_it_is() -> None:
    with hunting() as hunt:
        for round_ in chain(known(), *map(rounds, range(1, 1 + SEEDS))):
            hunt.send(round_)
    assert not hunt.findings
    assert hunt.statuses["200"]
    assert hunt.statuses["413"]
