"""Log failed requests even without an access log: at most one line per second and kind."""

import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from logitserve_service.periodically import periodically
from logitserve_service.telemetry.exchange import Exchange, described
from logitserve_service.telemetry.request_ids import identified

SECONDS: Final = 1.0
"""Minimum seconds between two lines of a kind."""
REFUSALS: Final = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    }
)
"""Statuses that mean wrong credentials, a slow client or overload; other 4xx are not logged."""
MAX_PATH_BYTES: Final = 256

logger = logging.getLogger("logitserve.requests")


@dataclass(slots=True)
class _Kind:
    last: Exchange
    seconds: float
    unlogged: int = 0


class FailureLog:
    """Logs the first failure of a kind at once, and then each second the number of further ones."""

    def __init__(self, probes: frozenset[str] = frozenset()) -> None:
        """Create the log; 503 responses of the routes `probes` are not logged."""
        self._probes = probes
        self._kinds: dict[tuple[int, str], _Kind] = {}

    def add(self, exchange: Exchange, seconds: float) -> None:
        """Record a response with a status of 400 or more; most client errors are not logged."""
        status = exchange.status
        is_broken = status == HTTPStatus.BAD_REQUEST and not exchange.method
        if status not in REFUSALS and status <= HTTPStatus.INTERNAL_SERVER_ERROR and not is_broken:
            return  # a 500 has been logged with its traceback
        if status == HTTPStatus.SERVICE_UNAVAILABLE and exchange.route in self._probes:
            return
        key = status, exchange.problem[0]
        kind = self._kinds.get(key)
        if kind is None:
            self._kinds[key] = kind = _Kind(exchange, seconds)
            _log(kind)
        else:
            kind.last, kind.seconds = exchange, seconds
            kind.unlogged += 1

    def write(self) -> None:
        """Log the failures since the last call; to be called each second and at the end."""
        for key, kind in list(self._kinds.items()):
            if kind.unlogged:
                _log(kind)
                kind.unlogged = 0
            else:
                del self._kinds[key]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Call `write` each second, and at the end of the context."""
        try:
            async with periodically(SECONDS, self.write):
                yield
        finally:
            self.write()


def _log(kind: _Kind) -> None:
    exchange = kind.last
    path = exchange.path[:MAX_PATH_BYTES].decode("latin-1")
    more = f" ({kind.unlogged} like this in the last second)" if kind.unlogged else ""
    more_fields = {"detail": exchange.problem[1], "count": max(1, kind.unlogged)}
    with identified(exchange.identity):
        logger.warning(
            "%s %s %d: %s%s",
            *(exchange.method or "-", path or "-", exchange.status, exchange.problem[1], more),
            extra={"fields": {**described(exchange, kind.seconds), **more_fields}},
        )
