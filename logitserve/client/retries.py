"""Retry policy of requests, and their final result or error."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

import httpx


class ClientError(Exception):
    """Base class of every error that a client raises on purpose."""


class UnreachableError(ClientError):
    """The server cannot be reached, or every attempt lost the connection."""


class TooSlowError(ClientError):
    """The server did not answer within the timeout."""


class ResponseError(ClientError):
    """The server returned an error status."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        self.detail = detail
        super().__init__(f"{status}: {detail}")


TRY_AGAIN: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})

Wait = float
"""Duration in seconds."""
Outcome = httpx.Response | httpx.TransportError


@dataclass(frozen=True, slots=True)
class Retries:
    """Retry policy for status 429, 503 and lost connections: exponential backoff with jitter."""

    count: int = 4
    first_wait: Wait = 0.2
    """Doubled after each attempt; the actual wait is random between half of it and all of it."""
    longest_wait: Wait = 20.0
    """If the server asks for a longer wait, the request fails."""

    def wait(self, attempt: int, response: httpx.Response | None, jitter: float) -> Wait | None:
        """Return the seconds before the next attempt, or None if the attempts are used up.

        The server's Retry-After is the minimum; `jitter` is 0 to 1.
        """
        asked = 0.0 if response is None else _retry_after(response)
        if attempt >= self.count or asked > self.longest_wait:
            return None
        backoff: Wait = min(self.first_wait * 2**attempt, self.longest_wait)
        return max(asked, 0.0) + backoff * (0.5 + jitter / 2)


def may_pass(outcome: Outcome | None) -> bool:
    """Return whether a retry may help: the server is busy or not ready, or the connection broke."""
    if isinstance(outcome, httpx.Response):
        return outcome.status_code in TRY_AGAIN
    return isinstance(outcome, httpx.NetworkError | httpx.RemoteProtocolError)


def _retry_after(response: httpx.Response) -> Wait:
    """Return the seconds of the Retry-After header, a number or a date; 0 without it."""
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
    """Return the JSON of a response, or the bytes of an image.

    Raises:
        ClientError: the request failed.
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
