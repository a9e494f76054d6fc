"""Explanations in a process of the lowest priority, so that predictions do not wait for them.

The supervisor forks it when a worker needs it: a worker has threads, which a fork would lose. It
serves one worker, and ends with it, or after `IDLE_SECONDS` without a request.
"""

import multiprocessing
import os
import time
import traceback
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import orjson

from logitserve.inference.card import ModelCard
from logitserve.inference.errors import InferenceError
from logitserve.inference.explaining import Explainer, Method
from logitserve.inference.images import encode_png
from logitserve.inference.model_file import Reading
from logitserve.inference.overlay import overlay
from logitserve.inference.predictor import Predictor
from logitserve_service.errors import ExplainerLostError
from logitserve_service.execution.job import Image
from logitserve_service.execution.preprocessing import give_way

NICENESS: Final = 19
"""Niceness of the process (`benchmarks/explaining.py` measures the effect on predictions)."""
REST_SECONDS: Final = 1e-5
"""Sleep after each run of the network (with the kernel's timer slack, 60 µs). The kernel lets a
process that never waits keep its core up to its next tick (4 ms), whatever its niceness is."""
IDLE_SECONDS: Final = 60.0
"""After this time without a request, the process ends, and its memory is freed."""

_spawn = multiprocessing.get_context("spawn")


class Asked(NamedTuple):
    """One explanation to compute."""

    image: Image
    max_pixels: int
    """Limit on width × height."""
    is_drawn: bool
    """Whether a PNG drawing is returned, and not JSON."""
    options: dict[str, Any]
    """Arguments of `Explainer.explain`."""


class Answer(NamedTuple):
    """A computed explanation."""

    body: bytes
    """Body of a response: JSON, or a PNG drawing."""
    method: Method
    """The method that was used."""
    seconds: float
    """Time of the computation."""


class _Failure(NamedTuple):
    """An error in a form that can be pickled, whatever the arguments of its class are."""

    kind: type[Exception]
    text: str


class StartRequests:
    """Requests of workers to start a process; made before the workers are forked."""

    def __init__(self) -> None:
        self._receiving, self._sending = Pipe()

    def fileno(self) -> int:
        """Return the descriptor that is readable while there is a request."""
        return self._receiving.fileno()

    def send(self) -> Connection:
        """Request a process, and return the connection to it.

        Raises:
            OSError: no process can be started, because the service is stopping.
        """
        own, other = Pipe()
        with other:
            send_handle(self._sending, other.fileno(), None)
        return own

    def receive(self) -> Connection:
        """Return the connection that the process of the next request must serve."""
        return Connection(recv_handle(self._receiving))

    def close_receiving(self) -> None:
        """Close this process's end for `receive`; once all are closed, each request fails."""
        self._receiving.close()


Start = Callable[[], Connection]
"""Starts a process, and returns the connection to it."""


def spawned() -> Connection:
    """Start a process without a supervisor; it imports all modules anew."""
    own, other = Pipe()
    with other:
        _spawn.Process(target=run, args=(other,), daemon=True).start()
    return own


class ExplainerProcess:
    """A worker's connection to its process. Used by one thread at a time."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._connection: Connection | None = None
        self._predictor: Callable[[], Predictor | None] = _no_predictor

    def explain(
        self,
        predictor: Predictor,
        reading: Callable[[], AbstractContextManager[Reading]],
        asked: Asked,
    ) -> Answer:
        """Compute an explanation, in a new process if there is none.

        Args:
            predictor: the model. The process keeps the last one open.
            reading: opens the bytes of its file.
            asked: what to compute.

        Raises:
            ExplainerLostError: the process ended.
            ModelFileError: `reading` failed.
            InferenceError: as in `Explainer.explain`.
        """
        while True:
            is_new = self._connection is None
            try:
                self._open(predictor, reading)
                return cast("Answer", self._call(asked))
            except (EOFError, OSError) as error:
                self._connection, self._predictor = None, _no_predictor
                if is_new:
                    raise ExplainerLostError from error

    def _open(
        self, predictor: Predictor, reading: Callable[[], AbstractContextManager[Reading]]
    ) -> None:
        if self._predictor() is predictor:
            return
        with reading() as content:
            if self._connection is None:
                self._connection = self._start()
            descriptor = os.open(content.path, os.O_RDONLY)
            try:
                self._connection.send((predictor.card, content.sha256))
                send_handle(self._connection, descriptor, None)
            finally:
                os.close(descriptor)
            self._predictor = _no_predictor
            _result(self._connection.recv())
        self._predictor = weakref.ref(predictor)

    def _call(self, asked: Asked) -> object:
        assert self._connection is not None  # noqa: S101 - `_open` was called
        self._connection.send(asked)
        return _result(self._connection.recv())


def _no_predictor() -> None:
    return None


def _result(received: object) -> object:
    if isinstance(received, _Failure):
        raise received.kind.__new__(received.kind, received.text)
    return received


def run(connection: Connection) -> None:
    """Compute explanations until the other end is closed, or is idle; the main of the process."""
    give_way(NICENESS)
    explainer: Explainer | None = None
    try:
        while connection.poll(IDLE_SECONDS):
            received = connection.recv()
            try:
                if isinstance(received, Asked):
                    assert explainer is not None  # noqa: S101 - a worker opens a model first
                    answer: object = _answered(explainer, received)
                else:
                    explainer = None  # frees its memory
                    explainer, answer = _opened(connection, *received), None
            except InferenceError as error:
                answer = _Failure(type(error), str(error))
            except Exception as error:  # noqa: BLE001 - the worker logs it, whatever it is
                answer = _Failure(RuntimeError, "".join(traceback.format_exception(error)))
            connection.send(answer)
    except (EOFError, ConnectionError):
        pass


def _opened(connection: Connection, card: ModelCard, sha256: str) -> Explainer:
    descriptor = recv_handle(connection)
    try:
        return Explainer(Reading(Path(f"/proc/self/fd/{descriptor}"), sha256), card)
    finally:
        os.close(descriptor)


def _answered(explainer: Explainer, asked: Asked) -> Answer:
    begun = time.perf_counter()
    prediction, image = explainer.predict(asked.image, max_pixels=asked.max_pixels)
    found = explainer.explain(image, **asked.options, rest=partial(time.sleep, REST_SECONDS))
    if asked.is_drawn:
        body = encode_png(overlay(image, found.map))
    else:
        card = explainer.predictor.card
        who = {"model": card.name, "version": card.version, "prediction": prediction}
        body = orjson.dumps({**who, **found.model_dump()})
    return Answer(body, found.method, time.perf_counter() - begun)
