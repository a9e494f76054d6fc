"""A process without sockets: its endpoint, and what it records."""

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from logitserve_service.config.settings import Settings
from logitserve_service.http.endpoint import Endpoint, Ticket
from logitserve_service.http.messages import RequestHead, Response, fields_of
from logitserve_service.http.routes import parse
from logitserve_service.server.assembly import Process, Shared
from logitserve_service.server.drain import Drain
from logitserve_service.telemetry.exchange import Exchange
from logitserve_service.telemetry.recorder import Recorder
from tests import tiny_models
from tests.service.gated import GatedPredictor, batcher_of

MAX_BODY = 200_000


class Records(list[Exchange]):
    """Recorded exchanges."""

    in_progress = 0

    def begun(self) -> None:
        self.in_progress += 1

    def record(self, exchange: Exchange) -> None:
        self.append(exchange)
        self.in_progress -= 1


@dataclasses.dataclass
class Bench:
    """A process, with its model behind a gate."""

    process: Process
    endpoint: Endpoint
    records: Records
    gated: GatedPredictor
    drain: Drain

    @property
    def reserved(self) -> int:
        """Bytes of bodies that are held."""
        return self.endpoint.admission.budget._reserved

    @property
    def waiting(self) -> int:
        return self.endpoint.catalog.find("tiny").batcher.waiting


@contextmanager
def bench(**options: Any) -> Iterator[Bench]:
    folder = Path(tempfile.mkdtemp())
    tiny_models.publish(folder / "models")
    given = {"max_body_bytes": MAX_BODY, "max_buffered_bytes": MAX_BODY, "access_log": False}
    settings = Settings(models=folder / "models", **{**given, **options})
    drain = Drain(linger_seconds=0, drain_seconds=5)
    try:
        process = Process.of(settings, Shared.of(1), drain)
        records = Records()
        endpoint = dataclasses.replace(process.endpoint, recorder=cast("Recorder", records))
        entry = endpoint.catalog.folder["tiny"]
        loaded = entry.versions["1"]
        gated = GatedPredictor(loaded.predictor)
        held = dataclasses.replace(
            loaded, predictor=gated, batcher=batcher_of(gated, threaded=True, max_queue=100)
        )
        endpoint.catalog.put("tiny", dataclasses.replace(entry, versions={"1": held}))
        yield Bench(process, endpoint, records, gated, drain)
    finally:
        shutil.rmtree(folder)


def head(
    method: str = "POST", target: str = "/predict", *headers: tuple[bytes, bytes], **fields: Any
) -> RequestHead:
    """The head of a request that begins now."""
    given = {"begun": time.perf_counter(), **fields}
    listed = list(headers)
    return RequestHead(
        method, parse(target.encode()), listed, fields_of(listed), "127.0.0.1", "http", **given
    )


class Replies(list[Response]):
    """Responses in their order."""

    def __call__(self, _: Ticket, response: Response) -> None:
        self.append(response)
