"""When a request is repeated, and what it came to in the end: an answer or an error."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

import httpx


class ClientError(Exception):
    """Base of every error that a client raises on purpose."""


class UnreachableError(ClientError):
    """The server cannot be reached, or the connection broke each time."""


class TooSlowError(ClientError):
    """The server did not answer within the timeout."""


class ResponseError(ClientError):
    """The server answered that something is wrong."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        self.detail = detail
        super().__init__(f"{status}: {detail}")


TRY_AGAIN: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})

Wait = float
"""Seconds."""
Outcome = httpx.Response | httpx.TransportError


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how patiently a request is repeated that met 429, 503 or a lost connection."""

    count: int = 4
    first_wait: Wait = 0.2
    """Doubled each time; what is waited is drawn between half of it and all."""
    longest_wait: Wait = 20.0
    """A server that asks for more is taken at its word: the request fails."""

    def wait(self, attempt: int, response: httpx.Response | None, jitter: float) -> Wait | None:
        """Seconds before the next try after so many that failed; None if there is none.

        What the server's answer asks for is the least; `jitter` is 0 to 1.
        """
        asked = 0.0 if response is None else _retry_after(response)
        if attempt >= self.count or asked > self.longest_wait:
            return None
        backoff: Wait = min(self.first_wait * 2**attempt, self.longest_wait)
        return max(asked, 0.0) + backoff * (0.5 + jitter / 2)


def may_pass(outcome: Outcome | None) -> bool:
    """Whether trying again may help: the server is busy or not ready, or the connection is lost."""
    if isinstance(outcome, httpx.Response):
        return outcome.status_code in TRY_AGAIN
    return isinstance(outcome, httpx.NetworkError | httpx.RemoteProtocolError)


def _retry_after(response: httpx.Response) -> Wait:
    """Seconds that the server asks for, as a number or a date; 0 if it does not."""
    asked = response.headers.get("Retry-After", "")
    try:
        return float(asked)
    except ValueError:
        pass
    try:
        return (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return 0.0


def result_of(outcome: Outcome | None) -> Any:
    """The JSON of an answer, or the bytes of an image.

    Raises:
        ClientError: what it is instead.
    """
    if isinstance(outcome, httpx.TimeoutException):
        raise TooSlowError(f"no answer from {outcome.request.url} in time") from outcome
    if not isinstance(outcome, httpx.Response):
        request = outcome.request if outcome is not None else None
        raise UnreachableError(f"{request.url if request else ''}: {outcome}") from outcome
    if outcome.headers.get("content-type") == "image/png":
        return outcome.content
    try:
        document = outcome.json()
    except ValueError:
        document = {"detail": outcome.text[:200]}
    if outcome.is_success:
        return document
    detail = document.get("detail") if isinstance(document, dict) else None
    raise ResponseError(outcome.status_code, str(detail or outcome.reason_phrase))
