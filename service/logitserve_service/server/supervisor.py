"""Several workers: started by fork, replaced when they die, stopped together.

The supervisor has imported all that a worker needs, but opens no model and starts no thread, so
that a fork of it is safe, and quick to answer. It tells workers to stop by SIGTERM; a worker tells
it, by a pipe, that it answers or why it cannot.
"""

import ctypes
import logging
import math
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from types import FrameType

from logitserve.inference.errors import InferenceError
from logitserve_service.errors import ServiceError, StartError
from logitserve_service.server.drain import EXIT_SECONDS, Drain, refuse_handshakes
from logitserve_service.server.worker import Serving

Work = Callable[[Callable[[Serving], None]], bool]
"""What a worker does: it is handed what to tell once it answers, and returns whether everything
was answered when it was told to stop."""

STOPS = (signal.SIGINT, signal.SIGTERM)

FIRST_WAIT_SECONDS = 0.5
"""Before a worker that died before it answered is started again; doubled each time."""
LONGEST_WAIT_SECONDS = 30.0

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_fork = multiprocessing.get_context("fork")

logger = logging.getLogger("logitserve.supervision")


class Worker:
    """One of the workers: a process, and once that has died, the next."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.serving: Serving | None = None
        """What it answers for, once it does."""
        self.failure: str | None = None
        """Why it cannot, if it said so."""
        self.start_at = -math.inf
        """When to start a process, on the monotonic clock; infinite while there is one."""
        self.early_deaths = 0
        """Processes in a row that ended before they answered."""

    @property
    def alive(self) -> bool:
        """Whether there is a process."""
        return self.start_at == math.inf

    def start(self) -> None:
        """Fork."""
        self.serving = self.failure = None
        self.start_at = math.inf
        self.reports, reporting = _fork.Pipe(duplex=False)
        # Until the child has handlers of its own, a signal has to wait.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        self.process = _fork.Process(target=_child, args=(self._work, reporting, os.getpid()))
        self.process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        reporting.close()

    def hear(self) -> None:
        """Take what it has to report, if that was not taken before."""
        if self.reports.closed:
            return
        try:
            report = self.reports.recv()
        except EOFError:
            report = None
        if isinstance(report, Serving):
            self.serving, self.early_deaths = report, 0
        else:
            self.failure = report
        self.reports.close()

    def bury(self) -> str:
        """Note that the process has ended, and when to start the next; how it ended."""
        self.hear()
        self.process.join()
        self.start_at = time.monotonic()
        if self.serving is None:
            wait_seconds = FIRST_WAIT_SECONDS * 2**self.early_deaths
            self.start_at += min(wait_seconds, LONGEST_WAIT_SECONDS)
            self.early_deaths += 1
        status = self.process.exitcode or 0
        if self.failure is not None:
            return self.failure
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"


class Supervisor:
    """The parent of the workers."""

    def __init__(
        self,
        work: Work,
        count: int,
        *,
        listener: socket.socket,
        drain: Drain,
        hand_on: signal.Signals | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            work: of each worker.
            count: of workers.
            listener: which they share.
            drain: of the supervisor itself.
            hand_on: a signal that is for the workers.
        """
        self._workers = [Worker(work) for _ in range(count)]
        self._listener = listener
        self._drain = drain
        self._hand_on = hand_on
        self._begun = False

    def run(self, begun: Callable[[Serving], None]) -> None:
        """Keep the workers alive until told to stop, then let them end.

        Args:
            begun: told once, when all of them answer.

        Raises:
            StartError: one of them could not start; it says why.
        """
        woken, waker = socket.socketpair()
        waker.settimeout(0)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for number in STOPS:
            signal.signal(number, self._stop)
        if self._hand_on is not None:
            signal.signal(self._hand_on, self._tell_workers)
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
        self._end()

    def _attend(self, woken: socket.socket) -> None:
        """Start who is to be started, then wait for something to happen, and take note of it."""
        now = time.monotonic()
        for worker in self._workers:
            if worker.start_at <= now:
                worker.start()
        wait_seconds = min(worker.start_at for worker in self._workers) - now
        living = [worker for worker in self._workers if worker.alive]
        happened = wait(
            [
                woken,
                *(worker.process.sentinel for worker in living),
                *(worker.reports for worker in living if not worker.reports.closed),
            ],
            None if wait_seconds == math.inf else wait_seconds,
        )
        if woken in happened:
            woken.recv(4096)
        for worker in living:
            if worker.reports in happened:
                worker.hear()
            if worker.process.sentinel in happened:
                self._replace(worker)

    def _replace(self, worker: Worker) -> None:
        how = worker.bury()
        if not self._begun and not self._drain.begun:
            raise StartError(worker.failure or f"a worker ended at its start ({how})")
        logger.warning(
            "worker %d has ended: %s; another starts in %.1f s",
            worker.process.pid,
            how,
            max(0.0, worker.start_at - time.monotonic()),
        )

    def _tell_workers(self, number: int, _: FrameType | None) -> None:
        for worker in self._workers:
            if worker.serving:
                os.kill(worker.process.pid or 0, number)

    def _stop(self, _: int, __: FrameType | None) -> None:
        if self._drain.begun:
            self._drain.remind()
        self._drain.begin()

    def _end(self) -> None:
        """Let the workers end, and end those that do not."""
        living = [worker.process for worker in self._workers if worker.alive]
        for process in living:
            process.terminate()
        time.sleep(self._drain.seconds_of_linger)
        refuse_handshakes(self._listener)
        self._listener.close()
        for process in living:
            # A worker cuts off what is too slow by itself.
            process.join(self._drain.seconds_left + EXIT_SECONDS * 0.8)
            if process.exitcode is None:
                logger.warning("worker %d does not end; it is killed", process.pid)
                process.kill()
                process.join()


def _child(work: Work, reporting: Connection, parent: int) -> None:
    signal.set_wakeup_fd(-1)
    for number in STOPS:
        signal.signal(number, lambda *_: sys.exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    # If the parent is killed, nobody is left to tell this process to stop.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return
    try:
        complete = work(reporting.send)
    except (InferenceError, ServiceError) as error:
        reporting.send(str(error))
        sys.exit(1)
    if not complete:
        os._exit(0)  # a thread may still be running a model
