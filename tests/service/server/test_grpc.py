"""How gRPC names the errors of the one table."""

from typing import Any

import grpc
import pytest

from logitserve_service.errors import QueueFullError, UnusableRequestError
from logitserve_service.http.problems import STATUS
from logitserve_service.server.grpc import CODES, Servicer, fields_of
from tests.service.telemetry.conftest import exchange

INVALID = {400, 405, 413, 415, 422, 431}
"""Statuses without a code of their own: the same request never succeeds."""


def test_every_status_has_a_code() -> None:
    assert set(STATUS.values()) | {500} == set(CODES) | INVALID
    assert not set(CODES) & INVALID


def test_only_what_may_succeed_later_is_retried() -> None:
    again = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}
    assert {status for status, code in CODES.items() if code in again} == {429, 503}


@pytest.mark.parametrize(
    ("error", "status", "code", "details"),
    [
        (QueueFullError(9, 1), 429, "RESOURCE_EXHAUSTED", "LOGITSERVE_MAX_QUEUE"),
        (UnusableRequestError("no such input"), 422, "INVALID_ARGUMENT", "no such input"),
        (RuntimeError("secret"), 500, "INTERNAL", "it is in the log"),
    ],
)
def test_errors(error: Exception, status: int, code: str, details: str) -> None:
    recorded = exchange(status=499)
    found, text = Servicer.explain(error, recorded)
    assert (recorded.status, found.name) == (status, code)
    assert details in text


@pytest.mark.parametrize("metadata", [None, (), [("x-api-key", "k"), ("a-bin", b"\0")]])
def test_metadata_are_header_fields(metadata: Any) -> None:
    expected = {b"x-api-key": b"k", b"a-bin": b"\0"} if metadata else {}
    assert fields_of(metadata) == expected
