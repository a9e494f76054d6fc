"""Who is told of every answer: what counts it, logs it and traces it."""

import time

from starlette.types import Scope

from logitserve_service.repository.catalog import Catalog
from logitserve_service.telemetry.access_log import QUIET_ROUTES, AccessLog, Headers
from logitserve_service.telemetry.metrics import Metrics
from logitserve_service.telemetry.request_ids import Identity
from logitserve_service.telemetry.tracing import Tracing

Received = tuple[Scope, Identity, float]
"""A request: its scope, who it is, and when it began, by `time.perf_counter`."""

Head = tuple[int, Headers]
"""Status and headers of an answer."""


class Observation:
    """Counts answers, and logs and traces them where that is wanted."""

    def __init__(
        self,
        metrics: Metrics,
        catalog: Catalog,
        *,
        access_log: AccessLog | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._metrics = metrics
        self._catalog = catalog
        self._access_log = access_log
        self._tracing = tracing

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
            self._access_log.add(
                scope, identity, route, status=status, seconds=seconds, headers=headers
            )
        if self._tracing is not None and route not in QUIET_ROUTES:
            attributes = {"http.route": route, "http.response.status_code": status}
            if model in self._catalog.models:
                attributes["logitserve.model"] = model
                version = scope.get("path_params", {}).get("version")
                newest = next(reversed(self._catalog.models[model]))
                attributes["logitserve.version"] = version or newest
            self._tracing.answered(scope, identity, attributes, seconds=seconds, headers=headers)
