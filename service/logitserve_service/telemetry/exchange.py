"""A request and its response, for metrics, the access log and traces."""

from dataclasses import dataclass
from typing import Any, Final

from logitserve_service.telemetry.request_ids import Identity
from logitserve_service.telemetry.timing import Timing

OTHER_ROUTE = "other"  # for paths without a route: clients could make any number of label values
NO_PROBLEM = ("", "")
LONGEST_MODEL: Final = 63  # a client may have sent any name
NO_MODEL = ""  # for requests without a model, or with one that does not exist


@dataclass(slots=True)
class Exchange:
    """Filled while a request is answered; recorded once, after its response was written."""

    method: str
    path: bytes  # without the query
    client: str | None  # address
    identity: Identity
    begun: float  # arrival of the first byte, by `time.perf_counter`
    route: str = OTHER_ROUTE  # such as `/models/{name}/predict`
    model: str = NO_MODEL
    version: str = ""
    status: int = 0
    size: int = 0  # bytes of the response body
    timing: Timing | None = None  # None if no model ran
    problem: tuple[str, str] = NO_PROBLEM  # kind and detail of an error
    is_private: bool = False  # whether nothing of it may be kept


def described(exchange: Exchange, seconds: float) -> dict[str, Any]:
    """What a JSON line tells of a response, besides its ids."""
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
