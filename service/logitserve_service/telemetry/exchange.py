"""The record of a request and its response, for metrics, the access log and traces."""

from dataclasses import dataclass
from typing import Any, Final

from logitserve_service.telemetry.request_ids import Identity
from logitserve_service.telemetry.timing import Timing

OTHER_ROUTE = "other"  # for paths without a route, so that clients cannot create label values
NO_PROBLEM = ("", "")
LONGEST_MODEL: Final = 63  # characters; clients can send any name
NO_VERSION = ""  # for requests that no version answers
NO_MODEL = ""  # for requests without a model, or with one that does not exist


@dataclass(slots=True)
class Exchange:
    """The facts of one request; filled while it is answered, recorded once after the response."""

    method: str
    path: bytes  # without the query
    client: str | None  # address
    identity: Identity
    begun: float  # arrival of the first byte, by `time.perf_counter`
    route: str = OTHER_ROUTE  # such as `/models/{name}/predict`
    model: str = NO_MODEL
    version: str = NO_VERSION
    status: int = 0
    size: int = 0  # bytes of the response body
    timing: Timing | None = None  # None if no model ran
    problem: tuple[str, str] = NO_PROBLEM  # kind and detail of an error
    is_private: bool = False  # whether nothing of the request may be stored


def described(exchange: Exchange, seconds: float) -> dict[str, Any]:
    """Return the members of a JSON log line of a response, besides the ids."""
    timing = exchange.timing
    members: dict[str, Any] = {
        "client": exchange.client,
        "method": exchange.method,
        "route": exchange.route,
        "model": exchange.model[:LONGEST_MODEL],
        "version": exchange.version,
        "status": exchange.status,
        "seconds": round(seconds, 6),
        "bytes": exchange.size,
    }
    if exchange.problem[0]:
        members["problem"] = exchange.problem[0]
    if timing is not None:
        members |= {
            "decode_seconds": round(timing.preprocessing, 6),
            "queue_seconds": round(timing.queue, 6),
            "inference_seconds": round(timing.inference, 6),
        }
    return members
