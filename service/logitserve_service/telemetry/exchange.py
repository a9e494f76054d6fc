"""A request and its response, for metrics, the access log and traces."""

from dataclasses import dataclass

from logitserve_service.telemetry.request_ids import Identity
from logitserve_service.telemetry.timing import Timing

OTHER_ROUTE = "other"  # for paths without a route: clients could make any number of label values
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
