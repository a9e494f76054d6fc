"""Requests that fail are in the log, but no flood of them."""

import logging

import orjson
import pytest

from logitserve_service.telemetry.failure_log import FailureLog
from logitserve_service.telemetry.logs import JsonFormatter
from logitserve_service.telemetry.timing import Timing
from tests.service.telemetry.conftest import exchange

FULL = ("QueueFullError", "the queue is full: its limit is 4 images")


def texts(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_the_first_of_a_kind_is_logged_and_the_others_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failure_log = FailureLog()
    for number in range(100):
        failure_log.add(exchange(status=429, problem=FULL, identity=(b"id-%d" % number, None)), 0.1)
    failure_log.add(exchange(status=504, problem=("DeadlineError", "too late")), 1)
    path = "POST /models/tiny/predict"
    first = [f"{path} 429: {FULL[1]}", f"{path} 504: too late"]
    assert texts(caplog) == first
    for _ in range(3):
        failure_log.write()
    assert texts(caplog) == [*first, f"{path} 429: {FULL[1]} (99 like this in the last second)"]
    failure_log.add(exchange(status=429, problem=FULL), 0.1)
    assert texts(caplog)[-1] == first[0]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_a_line_has_fields(caplog: pytest.LogCaptureFixture) -> None:
    timing = Timing(0.001, 0.002, 0.003)
    FailureLog().add(exchange(status=429, problem=FULL, timing=timing, path=b"/\n\xff"), 0.1234567)
    line = orjson.loads(JsonFormatter().format(caplog.records[0]))
    del line["time"], line["pid"], line["message"]
    assert line == {
        "level": "warning",
        "logger": "logitserve.requests",
        "client": "127.0.0.1",
        "method": "POST",
        "route": "/models/{name}/predict",
        "model": "tiny",
        "version": "3",
        "status": 429,
        "seconds": 0.123457,
        "bytes": 312,
        "problem": "QueueFullError",
        "detail": FULL[1],
        "decode_seconds": 0.001,
        "queue_seconds": 0.002,
        "inference_seconds": 0.003,
        "count": 1,
    }


@pytest.mark.parametrize(
    ("fields", "is_logged"),
    [
        ({"status": 400}, False),
        ({"status": 400, "method": "", "path": b"", "route": "other"}, True),
        ({"status": 401}, True),
        ({"status": 404}, False),
        ({"status": 422}, False),
        ({"status": 499}, False),
        ({"status": 500}, False),  # logged with its traceback
        ({"status": 503}, True),
        ({"status": 503, "route": "/readyz"}, False),
        ({"status": 401, "route": "/metrics"}, True),
    ],
)
def test_what_is_logged(
    caplog: pytest.LogCaptureFixture, fields: dict[str, object], *, is_logged: bool
) -> None:
    FailureLog(frozenset({"/readyz"})).add(exchange(**fields), 0)
    assert bool(caplog.records) is is_logged
