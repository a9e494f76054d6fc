"""Which requests a canary draws."""

import pytest

from logitserve.inference import rollout
from logitserve.inference.predictor import Predictor
from logitserve_service.repository.canary import Canary
from logitserve_service.repository.loaded_model import LoadedModel
from tests.service.gated import batcher_of

Fields = dict[bytes, bytes]


def canary(predictor: Predictor, percent: float, by: str = "request") -> Canary:
    model = LoadedModel(predictor.card, predictor, batcher_of(predictor))
    return Canary(model, rollout.Canary(version="1", percent=percent, by=by))


@pytest.mark.parametrize("percent", [1, 10, 50, 100])
def test_the_share_of_many_is_as_asked(predictor: Predictor, percent: float) -> None:
    found = canary(predictor, percent)
    taken = sum(found.takes({}, b"request %d" % number) for number in range(10_000))
    assert taken / 100 == pytest.approx(percent, abs=2)


def test_a_key_is_drawn_alike_however_it_is_sent(predictor: Predictor) -> None:
    found = canary(predictor, 50, "key")
    drawn = set()
    for number in range(100):
        key = b"key-%d" % number
        sent: list[Fields] = [{b"authorization": b"Bearer " + key}, {b"x-api-key": key}]
        outcomes = {found.takes(fields, b"%d" % i) for i, fields in enumerate(sent)}
        assert len(outcomes) == 1
        drawn |= outcomes
    assert drawn == {False, True}


def test_without_the_field_the_request_id_decides(predictor: Predictor) -> None:
    by_header, by_id = canary(predictor, 50, "header:X-User"), canary(predictor, 50)
    for number in range(100):
        identity = b"%d" % number
        assert by_header.takes({}, identity) == by_id.takes({}, identity)
        assert by_header.takes({b"x-user": identity}, b"") == by_id.takes({}, identity)
