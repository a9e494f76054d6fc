"""Records as lines: what came from outside stays within its own."""

import logging
import sys

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitserve_service.telemetry.logs import JsonFormatter, TextFormatter, rfc3339

ANY_TEXT = st.text(st.characters())


def record(message: str, error: str | None = None) -> logging.LogRecord:
    exc_info = None
    if error is not None:
        try:
            raise ValueError(error)
        except ValueError:
            exc_info = sys.exc_info()
    return logging.LogRecord("logitserve.x", logging.ERROR, "", 0, "%s", (message,), exc_info)


@given(ANY_TEXT, ANY_TEXT)
def test_json_is_one_object_a_line(message: str, error: str) -> None:
    line = JsonFormatter().format(record(message, error))
    assert line.isprintable() or not {"\n", "\r"} & set(line)
    found = orjson.loads(line)
    assert found["level"] == "error"
    assert found["exception"].startswith("Traceback")
    if message.isprintable():
        assert found["message"] == message


@given(ANY_TEXT, ANY_TEXT)
def test_text_begins_no_line_but_its_own(message: str, error: str) -> None:
    first, *rest = TextFormatter().format(record(message, error)).splitlines()
    assert " ERROR " in first
    assert all(line.startswith("  | ") for line in rest)
    if message.isprintable():
        assert first.endswith(message)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1970-01-01T00:00:00.000Z"), (1769860800.1239, "2026-01-31T12:00:00.123Z")],
)
def test_times(seconds: float, text: str) -> None:
    assert rfc3339(seconds) == text
