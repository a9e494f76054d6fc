"""How many requests per second a service stands: `make knee`.

Callers are added step by step, each pacing itself. A step is stood if the 99th percentile stays
under the limit, the rate is reached and nothing fails; the knee is the highest step that is.
"""

import json
import os
import random
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from locust import LoadTestShape, constant_throughput, events
from locust.env import Environment
from locust.runners import WorkerRunner

from tests.load.search import Search, Step, percentile
from tests.load.users import Caller

LIMIT_MS: Final = float(os.environ.get("KNEE_P99_MS", "50"))
HIGHEST_RATE: Final = float(os.environ.get("KNEE_HIGHEST_RATE", "20000"))
SETTLE_SECONDS: Final = 3.0
MEASURE_SECONDS: Final = float(os.environ.get("KNEE_STEP_SECONDS", "10"))
RATE_OF_A_CALLER: Final = 10.0


class Paced(Caller):
    """Asks at a steady rate, as long as the answers come in time."""

    wait_time = constant_throughput(RATE_OF_A_CALLER)

    def on_start(self) -> None:
        """Begin at a time of its own: in step, callers would come in bursts, as people do not."""
        super().on_start()
        time.sleep(random.random() / RATE_OF_A_CALLER)  # noqa: S311 - no secret


class Knee(LoadTestShape):
    """A step after the other, each measured after it has settled."""

    def __init__(self) -> None:
        """Begin at the lowest rate."""
        super().__init__()
        self.search = Search(LIMIT_MS, HIGHEST_RATE)
        self._callers = self._callers_next()
        self._began = 0.0
        self._before: tuple[float, Counter[int], int] | None = None

    def tick(self) -> tuple[int, float] | None:
        """How many callers there shall be now, and how many may be added a second."""
        now = time.perf_counter()
        if self._callers is None:
            return None
        if self.get_current_user_count() != self._callers:
            self._began, self._before = now, None
        elif self._before is None:
            if now >= self._began + SETTLE_SECONDS:
                self._before = self._counted()
        elif now >= self._before[0] + MEASURE_SECONDS:
            self._finish_step(self._callers, self._before)
            self._callers, self._began, self._before = self._callers_next(), now, None
        return None if self._callers is None else (self._callers, 100.0)

    def _callers_next(self) -> int | None:
        tried = Counter(round(step.offered / RATE_OF_A_CALLER) for step in self.search.steps)
        rate = self.search.next_rate
        callers = None if rate is None else max(1, round(rate / RATE_OF_A_CALLER))
        again = bool(self.search.steps) and rate == self.search.steps[-1].offered
        return callers if callers is None or again or not tried[callers] else None

    def _counted(self) -> tuple[float, Counter[int], int]:
        """The time, answers by their milliseconds, and failures, since the start."""
        assert self.runner is not None
        total = self.runner.stats.total
        return time.perf_counter(), Counter(total.response_times), total.num_failures

    def _finish_step(self, callers: int, before: tuple[float, Counter[int], int]) -> None:
        now, counts, failures = self._counted()
        counts.subtract(before[1])
        step = Step(
            offered=callers * RATE_OF_A_CALLER,
            reached=counts.total() / (now - before[0]),
            p50=percentile(counts, 0.5),
            p95=percentile(counts, 0.95),
            p99=percentile(counts, 0.99),
            failures=failures - before[2],
        )
        self.search.steps.append(step)
        if len(self.search.steps) == 1:
            _print(f"{'offered/s':>10}{'reached/s':>11}{'p50 ms':>8}{'p95 ms':>8}{'p99 ms':>8}")
        stood = "" if step.good(LIMIT_MS) else "  too much"
        _print(
            f"{step.offered:10.0f}{step.reached:11.0f}{step.p50:8.0f}{step.p95:8.0f}{step.p99:8.0f}"
            + (f"  {step.failures} failed" if step.failures else stood)
        )


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@events.quitting.add_listener
def _report(environment: Environment, **_: Any) -> None:
    shape, runner = environment.shape_class, environment.runner
    if not isinstance(shape, Knee) or runner is None or isinstance(runner, WorkerRunner):
        return
    knee = shape.search.knee
    busy = runner.cpu_warning_emitted or runner.worker_cpu_warning_emitted
    if knee is None:
        _print(f"no rate was stood with a 99th percentile under {LIMIT_MS:g} ms")
        environment.process_exit_code = 1
    else:
        _print(
            f"the knee: {knee.reached:.0f} requests/s with a 99th percentile of {knee.p99:.0f} ms"
        )
        environment.process_exit_code = 0  # what failed beyond the knee is no failure of the search
    if busy:
        _print("Locust itself was at its limit: the service may stand more (PROCESSES=2)")
    if folder := os.environ.get("KNEE_FOLDER"):
        found = {
            "limit_ms": LIMIT_MS,
            "locust_was_busy": busy,
            "knee": None if knee is None else asdict(knee),
            "steps": [asdict(step) for step in shape.search.steps],
        }
        Path(folder, "knee.json").write_text(json.dumps(found, indent=1) + "\n")
