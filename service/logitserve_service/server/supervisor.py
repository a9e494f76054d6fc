"""The supervisor: it forks the workers, replaces those that exit or hang, and stops them.

It has imported the modules of a worker, but loads no model and starts no thread, so that forking is
safe and fast. SIGTERM stops a worker; a worker reports its start through a pipe.
"""

import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection, Pipe, wait
from types import FrameType

from logitserve.inference.errors import InferenceError
from logitserve_service.errors import ServiceError, StartError
from logitserve_service.server import memory
from logitserve_service.server.assembly import Shared
from logitserve_service.server.children import IGNORED, STOPS, forked
from logitserve_service.server.drain import EXIT_SECONDS, Drain, refuse_handshakes
from logitserve_service.server.explainers import Explainers
from logitserve_service.server.worker import Serving
from logitserve_service.telemetry.families import WORKER_EXITS
from logitserve_service.telemetry.metrics import Metrics, count_lost
from logitserve_service.telemetry.shared_values import Row

Work = Callable[[int, Callable[[Serving], None]], bool]
"""Runs a worker, given its number and a function to call once it serves. Returns whether all
requests were answered."""

FIRST_WAIT_SECONDS = 0.5
"""Delay before the restart of a worker that was out of memory, or that exited before it served; in
the latter case it doubles each time."""
LONGEST_WAIT_SECONDS = 30.0
CHECK_SECONDS = 1.0
"""Interval of the heartbeats of a worker, and of their checks."""

OOM_SCORE = 100
"""Added to `oom_score_adj` of a worker (thousandths of the memory): if memory runs out, the kernel
kills a worker, which is replaced, and not the supervisor, whose exit ends the service."""

OUT_OF_MEMORY, HUNG, SIGNAL, EXIT = KINDS = ("oom", "hung", "signal", "exit")
"""Kinds of exit of a worker."""

logger = logging.getLogger("logitserve.supervision")


class Worker:
    """A worker slot: its current process, or the time of the next one."""

    def __init__(self, work: Work, number: int, row: Row) -> None:
        self._work = work
        self._number = number
        self._row = row
        self._beats = 0  # heartbeats at the last check
        self._silent_seconds = 0.0
        self.is_hung = False
        self.serving: Serving | None = None
        self.failure: str | None = None
        self.lost = 0  # requests lost with the last process
        self.start_at = -math.inf
        """When to start a process, by the monotonic clock; infinite while one runs."""
        self._early_exits = 0  # consecutive processes that exited before they served

    def start(self) -> None:
        """Fork a process."""
        self.serving = self.failure = None
        self.is_hung = False
        self._silent_seconds = 0.0
        self.start_at = math.inf
        self.reports, reporting = Pipe(duplex=False)
        self.process = forked(partial(_run, self._work, self._number, reporting), OOM_SCORE)
        reporting.close()

    def read_report(self) -> None:
        """Read the start-up report, once."""
        if self.reports.closed:
            return
        with self.reports:
            try:
                report = self.reports.recv()
            except EOFError:
                report = None
        if isinstance(report, Serving):
            self.serving, self._early_exits = report, 0
        else:
            self.failure = report

    def serves(self) -> bool:
        """Return whether the process has begun to serve."""
        if not self.reports.closed and self.reports.poll():
            self.read_report()
        return self.serving is not None

    def kill_if_silent(self, seconds: float) -> None:
        """Kill a serving process without a heartbeat for this time.

        Checks are counted, not time, so that none is killed if all processes were suspended for a
        while.
        """
        is_silent = self.serving is not None and self._row.beats == self._beats
        self._beats = self._row.beats
        self._silent_seconds = self._silent_seconds + CHECK_SECONDS if is_silent else 0.0
        if self._silent_seconds >= seconds:
            self.is_hung = True
            self.process.kill()

    def reap(self, *, out_of_memory: bool) -> tuple[str, str]:
        """Schedule the restart of an exited process; return the kind and reason of its exit.

        `out_of_memory` means that the kernel has killed a process for lack of memory.
        """
        self.read_report()
        self.process.join()
        self.lost = count_lost(self._row)
        self._row.drop()
        self.start_at = time.monotonic()
        if self.serving is None:
            wait_seconds = FIRST_WAIT_SECONDS * 2**self._early_exits
            self.start_at += min(wait_seconds, LONGEST_WAIT_SECONDS)
            self._early_exits += 1
        status = self.process.exitcode or 0
        if self.failure is not None:
            return EXIT, self.failure
        if self.is_hung:
            return HUNG, f"it sent no heartbeat for {self._silent_seconds:g} seconds"
        if status >= 0:
            return EXIT, f"exit status {status}"
        name = signal.Signals(-status).name
        if name == "SIGKILL" and out_of_memory:
            # Other processes may be about to be killed too; a new process would add to the load.
            self.start_at = max(self.start_at, time.monotonic() + FIRST_WAIT_SECONDS)
            return OUT_OF_MEMORY, f"out of memory (limit {memory.limit() / 2**20:.0f} MiB)"
        return SIGNAL, name


class Supervisor:
    """The parent of the workers."""

    def __init__(
        self,
        work: Work,
        count: int,
        shared: Shared,
        *,
        listener: socket.socket,
        drain: Drain,
        timeout_seconds: float,
    ) -> None:
        self._workers = [Worker(work, number, shared.rows[number]) for number in range(count)]
        self._explainers = Explainers(shared.explainers, listener)
        self._state = shared.state
        self._metrics = Metrics(shared.rows, count)
        for kind in KINDS:  # the counter must exist before its first increase
            self._metrics.add(WORKER_EXITS, 0, kind)
        self._timeout_seconds = timeout_seconds
        self._checked = time.monotonic()
        self._oom_kills = memory.oom_kills()
        self._listener = listener
        self._drain = drain
        self._begun = False

    def run(self, begun: Callable[[Serving], None]) -> None:
        """Keep the workers running until a signal stops them; call `begun` once all of them serve.

        Raises:
            StartError: a worker could not start.
        """
        woken, waker = socket.socketpair()
        waker.settimeout(0)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for number in STOPS:
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._reread)
        for number in IGNORED:
            signal.signal(number, _ignore)
        try:
            while not self._drain.begun:
                self._attend(woken)
                first = self._workers[0].serving
                if not self._begun and first and all(worker.serving for worker in self._workers):
                    self._begun = True
                    begun(first)
        except StartError:
            for worker in self._workers:
                worker.process.kill()
                worker.process.join()
            raise
        self._explainers.close()
        self._end()
        self._explainers.stop()

    def _attend(self, woken: socket.socket) -> None:
        """Start the workers that are due, wait for an event, and handle it."""
        now = time.monotonic()
        for worker in self._workers:
            if worker.start_at <= now:
                worker.start()
        wait_seconds = min(worker.start_at for worker in self._workers) - now
        running = [worker for worker in self._workers if worker.start_at == math.inf]
        sentinels = [worker.process.sentinel for worker in running]
        reports = [worker.reports for worker in running if not worker.reports.closed]
        if now - self._checked >= CHECK_SECONDS:
            self._checked = now
            for worker in running:
                worker.kill_if_silent(self._timeout_seconds)
        waited = [woken, *sentinels, *reports, *self._explainers.waited]
        events = wait(waited, min(wait_seconds, CHECK_SECONDS))
        if woken in events:
            woken.recv(4096)
        for worker in running:
            if worker.reports in events:
                worker.read_report()
            if worker.process.sentinel in events:
                self._replace(worker)
        if self._explainers.attend(events):
            self._oom_kills = memory.oom_kills()  # of no worker

    def _replace(self, worker: Worker) -> None:
        kind, reason = worker.reap(out_of_memory=memory.oom_kills() > self._oom_kills)
        self._oom_kills += kind == OUT_OF_MEMORY
        # The next process refuses the version that this one was loading.
        was_loading = self._state.ended(worker.process.pid or 0, reason)
        if not (self._begun or self._drain.begun or was_loading):
            raise StartError(worker.failure or f"a worker exited at start-up ({reason})")
        self._metrics.add(WORKER_EXITS, 1, kind)
        wait_seconds = max(0.0, worker.start_at - time.monotonic())
        text = "worker %d has exited: %s; %d requests are lost, another worker starts in %.1f s"
        logger.error(text, worker.process.pid, reason, worker.lost, wait_seconds)

    def _reread(self, number: int, _: FrameType | None) -> None:
        logger.info("SIGHUP: the certificate, keys and models are read again")
        for worker in self._workers:
            if worker.serving:
                os.kill(worker.process.pid or 0, number)

    def _stop(self, _: int, __: FrameType | None) -> None:
        if self._drain.begun:
            self._drain.remind()
        self._drain.begin()

    def _end(self) -> None:
        """Stop the workers; kill those that do not exit in time or do not serve yet."""
        workers = [worker for worker in self._workers if worker.start_at == math.inf]
        running = [worker.process for worker in workers]
        for worker in workers:
            if worker.serves():
                worker.process.terminate()
            else:
                worker.process.kill()
        if not any(worker.serving for worker in workers):
            return
        time.sleep(self._drain.seconds_of_linger)
        refuse_handshakes(self._listener)
        self._listener.close()
        for process in running:
            # A worker cuts off slow requests itself.
            process.join(self._drain.seconds_left + EXIT_SECONDS * 0.8)
            if process.exitcode is None:
                logger.warning("worker %d does not exit; it is killed", process.pid)
                process.kill()
                process.join()


def _ignore(number: int, _: FrameType | None) -> None:
    logger.warning("%s is ignored", signal.Signals(number).name)


def _run(work: Work, number: int, reporting: Connection) -> None:
    try:
        complete = work(number, reporting.send)
    except (InferenceError, ServiceError) as error:
        reporting.send(str(error))
        sys.exit(1)
    if not complete:
        os._exit(0)  # a thread may still be running a model, which a normal exit would wait for
