from tests.campaigns.odd_pictures import campaign


def test_odd_and_mutated_pictures_neither_break_the_server_nor_fill_it() -> None:
    outcome = campaign(mutated=250, odd=80)
    assert not outcome.faults
    assert sum(outcome.statuses.values()) == 330
    assert set(outcome.statuses) == {200, 413, 422}
    assert outcome.after - outcome.before < 50  # MiB
