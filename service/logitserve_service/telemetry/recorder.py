"""Record responses in metrics, logs and traces."""

import time
from typing import TYPE_CHECKING

from logitserve_service.telemetry.access_log import AccessLog
from logitserve_service.telemetry.exchange import Exchange
from logitserve_service.telemetry.failure_log import FailureLog
from logitserve_service.telemetry.metrics import Metrics

if TYPE_CHECKING:  # needs the extra `otel`
    from logitserve_service.telemetry.spans import Spans

LAST_GOOD = 399
"""The highest status that is no error; a plain int, as each response is compared with it."""


class Recorder:
    """Records every response once."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        access_log: AccessLog | None = None,
        tracing: "Spans | None" = None,
        failure_log: FailureLog | None = None,
        quiet_routes: frozenset[str] = frozenset(),
        log_quiet_routes: bool = False,
    ) -> None:
        """Record responses; those of `quiet_routes` are not traced, and logged only if so set."""
        self.begun = metrics.begun
        """Call this once for each request, before `record`."""
        self._answered, self._spent = metrics.answered, metrics.spent
        self._access_log = access_log
        self._tracing = tracing
        self._failure_log = failure_log
        self._untraced = quiet_routes
        self._unlogged = frozenset() if log_quiet_routes else quiet_routes

    def record(self, exchange: Exchange) -> None:
        """Record a response right after it was sent."""
        route = exchange.route
        seconds = time.perf_counter() - exchange.begun
        self._answered(route, exchange.model, exchange.version, exchange.status, seconds)
        if exchange.timing is not None:
            self._spent(exchange.model, exchange.timing)
        if exchange.status > LAST_GOOD and self._failure_log is not None:
            self._failure_log.add(exchange, seconds)
        if self._access_log is not None and route not in self._unlogged:
            self._access_log.add(exchange, seconds)
        if self._tracing is not None and route not in self._untraced:
            self._tracing.add(exchange, seconds)
