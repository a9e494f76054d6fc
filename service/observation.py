"""Who is told of every answer: what counts it, and what logs it."""

import time

from starlette.types import Scope

from service.access_log import AccessLog, Headers
from service.metrics import Metrics
from service.telemetry import Identity

Received = tuple[Scope, Identity, float]
"""A request: its scope, who it is, and when it began, by `time.perf_counter`."""

Head = tuple[int, Headers]
"""Status and headers of an answer."""


class Observation:
    """Counts answers, and logs them where that is wanted."""

    def __init__(self, metrics: Metrics, access_log: AccessLog | None = None) -> None:
        self._metrics = metrics
        self._access_log = access_log

    def answered(self, received: Received, route: str, model: str, head: Head) -> None:
        """A request was answered just now.

        Args:
            received: the request.
            route: as it is documented.
            model: which it was for, whether there is one or not.
            head: of the answer.
        """
        scope, identity, begun = received
        status, headers = head
        seconds = time.perf_counter() - begun
        self._metrics.answered(route, model, status, seconds)
        if self._access_log is not None:
            self._access_log.add((time.time(), scope, identity, route, status, seconds, headers))
