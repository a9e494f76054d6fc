"""One call counts, logs and traces a response."""

import os
from pathlib import Path

import orjson
import pytest

from logitserve.inference.predictor import Predictor
from logitserve_service.telemetry.access_log import AccessLog
from logitserve_service.telemetry.exchange import Exchange
from logitserve_service.telemetry.metrics import Metrics
from logitserve_service.telemetry.recorder import Recorder
from tests.service.telemetry.conftest import Read, exchange

QUIET = frozenset({"/livez"})


class SpanList:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.added: list[tuple[Exchange, float]] = []

    def add(self, exchange: Exchange, seconds: float) -> None:
        self.added.append((exchange, seconds))


def recorded(
    metrics: Metrics, folder: Path, *exchanges: Exchange, log_quiet_routes: bool = False
) -> tuple[list[dict[str, object]], SpanList]:
    """The lines and spans of some exchanges."""
    spans = SpanList()
    with (folder / "log").open("w+b") as file:
        log = AccessLog(file.fileno(), "json")
        recorder = Recorder(
            metrics,
            access_log=log,
            tracing=spans,  # type: ignore[arg-type]
            quiet_routes=QUIET,
            log_quiet_routes=log_quiet_routes,
        )
        for each in exchanges:
            recorder.record(each)
        log.write()
        return [orjson.loads(line) for line in (folder / "log").read_bytes().splitlines()], spans


def test_a_response_is_counted_logged_and_traced(
    metrics: Metrics, read: Read, predictor: Predictor, tmp_path: Path
) -> None:
    metrics.model(predictor.card.model_copy(update={"version": "3"}))
    given = exchange()
    (line,), spans = recorded(metrics, tmp_path, given)
    labels = {"route": given.route, "model": "tiny", "version": "3", "status": "200"}
    assert read("requests_total", **labels) == 1
    timed = {**labels, "status": "2xx"}
    assert read("request_seconds_count", **timed) == 1
    assert 0.004 <= read("request_seconds_sum", **timed) < 60
    assert line["pid"] == os.getpid()
    assert (line["request_id"], line["status"], line["bytes"]) == ("id-1", 200, 312)
    ((span, seconds),) = spans.added
    assert span.version == "3"
    assert round(seconds, 6) == line["seconds"]
    assert seconds == pytest.approx(read("request_seconds_sum", **timed))


@pytest.mark.parametrize("at_debug", [False, True])
def test_probes_are_counted_but_quiet(
    metrics: Metrics, read: Read, tmp_path: Path, *, at_debug: bool
) -> None:
    probe = exchange(route="/livez", path=b"/livez", model="")
    lines, spans = recorded(metrics, tmp_path, probe, log_quiet_routes=at_debug)
    assert read("requests_total", route="/livez", model="", version="", status="200") == 1
    assert (len(lines), spans.added) == (at_debug, [])


def test_metrics_alone(metrics: Metrics, read: Read) -> None:
    Recorder(metrics).record(exchange(route="other", model="", status=400))
    assert read("requests_total", route="other", model="", version="", status="400") == 1
