"""The load test's own requests, answered by the models of this repository."""

from pathlib import Path

import httpx
import pytest

from tests.e2e.process import running
from tests.load.requests import MIX, prepared

ROOT = Path(__file__).parents[2]


def test_the_shares_of_the_mix_are_percent() -> None:
    assert sum(share.percent for share in MIX) == 100


def test_every_prepared_request_is_answered_right_and_a_swap_would_be_seen() -> None:
    requests = [request for kind in prepared().values() for request in kind]
    with running("--models", str(ROOT / "models")) as server, httpx.Client(timeout=30) as client:
        answers = [
            client.post(server.url + request.path, content=request.body, headers=request.headers)
            for request in requests
        ]
    assert [answer.status_code for answer in answers] == [200] * len(requests)
    for request, answer in zip(requests, answers, strict=True):
        assert not request.wrong(answer.content), request.kind
    for request, after, swapped in zip(requests, requests[1:], answers[1:], strict=False):
        assert bool(request.wrong(swapped.content)) is (request.digits != after.digits)


def test_a_wrong_label_is_said() -> None:
    request = prepared()[MIX[0]][0]
    (digit,) = request.digits
    answer = b'{"predictions": [{"label": "%d"}]}' % ((digit + 1) % 10)
    assert request.wrong(answer) == f"drawn ({digit},), answered ({(digit + 1) % 10},)"
    with pytest.raises(KeyError):
        request.wrong(b"{}")
