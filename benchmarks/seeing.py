"""What counting and logging cost: `python benchmarks/seeing.py`.

First CPU time of single steps, then CPU time of the server a request with the access log off and
on, in turn. Ratios are what to read.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

STEPS = 20_000
ROUNDS = 5
BATCH = 16
CONNECTIONS = 32
ROUTE = "/predict"
SECONDS = 0.004


def microseconds(step: Callable[[], object], steps: int = STEPS) -> float:
    """CPU time of a step; the fastest round."""
    rounds = []
    for _ in range(ROUNDS):
        begun = time.thread_time()
        for _ in range(steps):
            step()
        rounds.append((time.thread_time() - begun) / steps)
    return min(rounds) * 1e6


def library() -> None:
    """prometheus_client's own objects where several processes add up."""
    with tempfile.TemporaryDirectory() as folder:
        # The library looks at the variable when it is imported.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        from prometheus_client import Counter, Histogram

        from logitserve_service.telemetry.metrics import REQUEST_SECONDS

        counter = Counter("steps", "help", ["route"]).labels(ROUTE)
        histogram = Histogram("seconds", "help", ["route"], buckets=REQUEST_SECONDS.bounds)
        observed = histogram.labels(ROUTE)
        print(f"prometheus_client: count {microseconds(counter.inc):.2f} µs")
        print(
            f"prometheus_client: observe {microseconds(lambda: observed.observe(SECONDS)):.2f} µs"
        )


def ours() -> None:
    """The same here, and all that is counted of a request whose batch has 16."""
    import numpy as np

    from logitserve.inference.predictor import Predictions, Predictor
    from logitserve.inference.repository import ModelRepository
    from logitserve_service.telemetry.metrics import REQUEST_SECONDS, REQUESTS, Metrics

    models = ModelRepository(Path(__file__).parents[1] / "models")
    card = Predictor.load(models.model_file("digits-mlp")).card
    logits = np.random.default_rng(0).normal(0, 5, (BATCH, card.logit_count)).astype(np.float32)
    said = Predictions.of(logits, card)
    with tempfile.TemporaryDirectory() as folder:
        metrics = Metrics(Path(folder))
        counter = metrics.value(REQUESTS, ROUTE, card.name, "200")
        histogram = metrics.histogram(REQUEST_SECONDS, ROUTE)
        model = metrics.model(card)
        print(f"here: count {microseconds(counter.add):.2f} µs")
        print(f"here: observe {microseconds(lambda: histogram.observe(SECONDS)):.2f} µs")

        def batch() -> None:
            model.decoded(SECONDS)
            model.ran(BATCH, SECONDS)
            model.predicted(said)
            for _ in range(BATCH):
                metrics.answered(ROUTE, card.name, 200, SECONDS)

        each = microseconds(batch, STEPS // BATCH) / BATCH
        print(f"here: all of a request in a batch of {BATCH} {each:.2f} µs")
        scrape = microseconds(lambda: metrics.exposition(""), 5)
        print(f"here: /metrics {scrape / 1000:.1f} ms")


def access_logs() -> None:
    """A line of uvicorn's access log, and one of ours, both to nowhere."""
    from uvicorn.logging import AccessFormatter

    from logitserve_service.telemetry.access_log import AccessLog
    from logitserve_service.telemetry.logs import LogFormat

    nowhere = os.open(os.devnull, os.O_WRONLY)
    with os.fdopen(nowhere, "w") as stream:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(
            AccessFormatter('%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s')
        )
        logger = logging.getLogger("uvicorn.access")
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(handler)
        line = '%s - "%s %s HTTP/%s" %d'
        address = "127.0.0.1:50000"
        theirs = microseconds(lambda: logger.info(line, address, "POST", ROUTE, "1.1", 200))
        print(f"access log of uvicorn: {theirs:.1f} µs a line")
        scope = {"method": "POST", "raw_path": ROUTE.encode(), "client": ("127.0.0.1", 50000)}
        headers = [(b"content-type", b"application/json"), (b"content-length", b"300")]
        formats: tuple[LogFormat, ...] = ("text", "json")
        for log_format in formats:
            log = AccessLog(stream.fileno(), log_format)

            def gathered(log: AccessLog = log) -> None:
                for _ in range(100):
                    log.add(
                        scope, (b"id-1", None), ROUTE, status=200, seconds=SECONDS, headers=headers
                    )
                log.write()

            each = microseconds(gathered, 200) / 100
            print(f"access log here, {log_format}: {each:.1f} µs a line")


def served(seconds: float) -> None:
    """CPU time of a server a request, with and without a line for each."""
    import sys

    import psutil
    from compare import normalized_digit
    from load import Payload, free_port, put_load, running

    with tempfile.TemporaryDirectory() as folder:
        payload = Payload(Path(folder) / "seven.png", "image/png")
        payload.file.write_bytes(normalized_digit())
        each: dict[str, list[float]] = {"off": [], "text": [], "json": []}
        for _ in range(3):
            for kind, found in each.items():
                port = free_port()
                url = f"http://127.0.0.1:{port}{ROUTE}"
                options = ["--access-log", "true", "--log-format", kind] if kind != "off" else []
                command = [sys.executable, "-m", "logitserve", "serve", "--port", str(port)]
                command += ["--models", str(Path(__file__).parents[1] / "models")]
                command += ["--default-model", "digits-mlp", *options]
                with running(command, url, payload, environment={}) as process:
                    put_load(url, payload, connections=CONNECTIONS, seconds=1)
                    server = psutil.Process(process.pid)
                    before = sum(server.cpu_times()[:2])
                    measured = put_load(url, payload, connections=CONNECTIONS, seconds=seconds)
                    used = sum(server.cpu_times()[:2]) - before
                    found.append(used / measured.requests * 1e6)
        medians = {kind: statistics.median(found) for kind, found in each.items()}
        for kind, median in medians.items():
            print(
                f"access log {kind}: {median:.1f} µs of CPU a request, "
                f"{median / medians['off']:.3f} of that without"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4, help="of each load; 0 for none")
    seconds = parser.parse_args().seconds
    library()
    ours()
    access_logs()
    if seconds:
        served(seconds)


if __name__ == "__main__":
    main()
