"""Past its deadline a request gets 504, whatever it is waiting for."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Weights
from tests.e2e.problems import assert_problem
from tests.e2e.process import Server, running
from tests.e2e.profiles import SETTINGS
from tests.e2e.sockets import connect, read_response, request
from tests.forms import HTTP_FORMS, RAW, Ask, Form
from tests.tiny_models import random_picture

pytestmark = pytest.mark.drill

IMAGE = random_picture(0)
MANY = {"pixels": [[[0] * 64] * 64] * 40}


def stalled(server: Server, form: Form, *fields: tuple[str, str]) -> tuple[int, str, float]:
    """Status, text and seconds of the response to a body that stands still."""
    with connect(server) as connection, connection.makefile("rb") as answers:
        begun = time.monotonic()
        connection.sendall(b"".join(request(form, Ask([IMAGE], fields=fields)))[:-5])
        status, body = read_response(answers)
        return status, str(json.loads(body)["error"]), time.monotonic() - begun


@pytest.mark.parametrize("form", HTTP_FORMS, ids=str)
def test_an_upload_counts(server: Server, form: Form) -> None:
    status, detail, seconds = stalled(server, form, ("X-Request-Timeout-Ms", "200"))
    assert status == 504
    assert "within its 200 ms" in detail
    assert SETTINGS["timeout"] in detail
    assert 0.2 <= seconds < 10


def test_a_request_may_ask_for_less_time(server: Server) -> None:
    for path in ("/predict", "/models/digits/predict"):
        response = server.client.post(path, json=MANY, headers={"X-Request-Timeout-Ms": "1"})
        assert_problem(response, 504, "within its 1 ms", SETTINGS["timeout"])
        headers = {"X-Request-Timeout-Ms": "19000"}
        assert server.client.post(path, json=MANY, headers=headers).status_code == 200


def test_a_deadline_that_is_none_elsewhere(server: Server) -> None:
    for value in ("0", "-5", "soon", "1.5"):
        response = server.client.get("/models", headers={"X-Request-Timeout-Ms": value})
        assert_problem(response, 400, "X-Request-Timeout-Ms", repr(value), "milliseconds")


@pytest.fixture(scope="module")
def impatient(models: tuple[Path, Weights]) -> Iterator[Server]:
    limits = ("--request-timeout-ms", "300", "--max-buffered-bytes", "1")
    with running("--models", str(models[0]), *limits, "--max-body-bytes", "20000") as started:
        yield started


def test_a_request_cannot_ask_for_more_time(impatient: Server) -> None:
    for fields in ([], [("X-Request-Timeout-Ms", "60000")]):
        status, detail, seconds = stalled(impatient, RAW, *fields)
        assert (status, "within its 300 ms" in detail) == (504, True)
        assert 0.3 <= seconds < 10


def test_bodies_that_stand_still_count_until_they_end(impatient: Server) -> None:
    head, body = request(RAW, Ask([IMAGE], body=bytes(12_000)))
    with connect(impatient) as first, connect(impatient) as second:
        first.sendall(head + body[:-5])
        second.sendall(head + body[:-5])
        statuses = {int(each.recv(65536).split()[1]) for each in (first, second)}
        assert statuses == {429, 504}
    assert RAW.send(impatient, Ask([IMAGE])).status == 200
