"""OpenTelemetry tracing; it is imported only if its environment variables name a collector."""

import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logitserve_service.telemetry.spans import Spans

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

logger = logging.getLogger("logitserve.tracing")


def tracing() -> "Spans | None":
    """Return spans for the OTLP collector of the environment; None without it or the extra."""
    named = next(filter(os.environ.get, ENDPOINT_VARIABLES), None)
    if named is None or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from logitserve_service.telemetry.spans import Spans
    except ImportError:
        logger.warning(
            "%s is set, but OpenTelemetry is not installed, so no spans are sent; install it "
            "with pip install 'logitserve[otel]'",
            named,
        )
        return None
    return Spans()
