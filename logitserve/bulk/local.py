"""Score units in several processes on this machine."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.synchronize import Event

from logitserve.bulk.scorer import Job, Part, score_unit
from logitserve.bulk.sources import Unit
from logitserve.errors import EngineError
from logitserve.inference.runtime import available_cpus

_job: Job
_stop: Event
"""State of a worker process, set by `_begin`."""


def score_units(
    job: Job, units: Sequence[tuple[int, Unit]], *, workers: int | None
) -> Generator[tuple[int, Part], None, None]:
    """Score numbered units in several processes; yield parts in the order of completion.

    Each process runs a predictor with one thread; the default is one process per CPU.

    Raises:
        EngineError: a process died.
        SourceError: a source no longer exists.
    """
    workers = min(workers or available_cpus(), len(units))
    context = multiprocessing.get_context("spawn")  # onnxruntime's threads do not survive a fork
    stop = context.Event()
    waiting = iter(units)
    running: dict[Future[Part], int] = {}
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(job, stop))
    try:
        while True:
            while len(running) < 2 * workers and (unit := next(waiting, None)) is not None:
                with _no_interrupts():
                    running[pool.submit(_score, unit[1])] = unit[0]
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    except BrokenProcessPool as error:
        raise EngineError(
            "a worker process was killed, perhaps for lack of memory; the written parts remain: "
            "run the same command again, with fewer --workers"
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Shield processes started inside from Ctrl-C, which a terminal sends to the whole group."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(job: Job, stop: Event) -> None:
    global _job, _stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _job, _stop = job, stop


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101 - the pool started this process
    parent.join()
    os._exit(1)


def _score(unit: Unit) -> Part:
    return score_unit(_job, unit, _stop.is_set)
