"""The deadline of a request, from its first byte to its answer.

As long as all deadlines are equally far away, the oldest request is the next to expire, so one
timer stands for all of them. A timer for each request costs four times as much as keeping it in a
dict (3.0 µs and 0.7, `benchmarks/deadlines.py`); only requests that ask for less have their own.
"""

import asyncio
import re
import time
from typing import Protocol

from logitserve_service.errors import DeadlineError, UnreadableRequestError

TIMEOUT_HEADER = b"x-request-timeout-ms"

_MILLISECONDS = re.compile(rb"0*[1-9][0-9]{0,9}")

RequestTask = asyncio.Task[object]


class Expiring(Protocol):
    """Something that may take too long: a task, or what stands for one."""

    def cancel(self) -> bool:
        """End it; whether it will ask why."""


class Deadlines:
    """Ends requests that take too long, by cancelling their tasks. Belongs to one event loop."""

    def __init__(self, timeout_ms: int) -> None:
        """Take the limit.

        Args:
            timeout_ms: milliseconds that a request may take; it may ask for less.
        """
        self._timeout_ms = timeout_ms
        self._seconds = timeout_ms / 1000
        self._ends: dict[Expiring, float] = {}  # the next to expire is the first
        self._timer: asyncio.TimerHandle | None = None
        self._own: dict[Expiring, asyncio.TimerHandle] = {}
        self._expired: dict[Expiring, int] = {}

    def begin(self, asked: bytes | None, now: float) -> RequestTask:
        """The current task serves a request.

        Args:
            asked: the value of its `X-Request-Timeout-Ms`.
            now: by `time.perf_counter`.

        Returns:
            the task, to be given to `end`.

        Raises:
            UnreadableRequestError: `asked` is no number of milliseconds.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - narrows the type
        if asked is not None:
            timeout_ms = _parsed(asked)
            if timeout_ms < self._timeout_ms:
                loop = asyncio.get_running_loop()
                self._own[task] = loop.call_later(timeout_ms / 1000, self._expire, task, timeout_ms)
                return task
        if now + self._seconds <= time.perf_counter():
            # It waited elsewhere. Now it has to begin before it can be cancelled.
            asyncio.get_running_loop().call_soon(self._expire, task, self._timeout_ms)
        else:
            self.watch(task, now)
        return task

    def watch(self, request: Expiring, now: float) -> None:
        """Cancel this unless `end` is called in time; it began at `now`, by `time.perf_counter`."""
        self._ends[request] = now + self._seconds
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._sweep)

    def end(self, request: Expiring) -> None:
        """This request has been answered."""
        if self._ends.pop(request, None) is None:
            own = self._own.pop(request, None)
            if own is not None:
                own.cancel()
            self._expired.pop(request, None)

    def error_of(self, task: RequestTask) -> DeadlineError | None:
        """Why this task was cancelled, if it was its deadline; it may then go on, and must end."""
        timeout_ms = self._expired.pop(task, None)
        if timeout_ms is None or task.uncancel() > 0:
            return None
        return DeadlineError(timeout_ms)

    def _sweep(self) -> None:
        """End what has expired, and wait for the next."""
        now = time.perf_counter()
        while self._ends:
            request, end = next(iter(self._ends.items()))
            if end > now:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(end - now, self._sweep)
                return
            del self._ends[request]
            self._expire(request, self._timeout_ms)
        self._timer = None

    def _expire(self, request: Expiring, timeout_ms: int) -> None:
        if request.cancel():
            self._expired[request] = timeout_ms


def _parsed(asked: bytes) -> int:
    if not _MILLISECONDS.fullmatch(asked):
        shown = asked[:40].decode("latin-1")
        raise UnreadableRequestError(
            f"X-Request-Timeout-Ms is {shown!r}; it must be a whole number of milliseconds, at "
            "least 1"
        )
    return int(asked)
