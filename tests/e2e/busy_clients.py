"""Keep-alive clients that ask without a pause, and know of every request what became of it."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from tests.tiny_models import linear_logits, png, random_picture

ANSWER_SECONDS = 20
PICTURES = 16


@dataclass(slots=True)
class Tally:
    """What became of the requests of all clients."""

    answered: int = 0
    unavailable: int = 0
    """Answered with 503."""
    closing: int = 0
    """Answers that said that their connection closes."""
    lost: list[str] = field(default_factory=list)
    """Requests that were sent and not answered completely, or not rightly."""
    refused: int = 0
    """Connections that were never made; no request was sent on them."""
    seconds: list[float] = field(default_factory=list)
    """How long each answer took."""


class BusyClients:
    """Clients that ask `POST /predict` of a server until they are refused or told to stop."""

    def __init__(self, url: str, matrix: npt.NDArray[np.float32], *, clients: int) -> None:
        """Prepare.

        Args:
            url: of the server.
            matrix: weights of its default model, a linear one, to know what is right.
            clients: how many ask at the same time.
        """
        pictures = [random_picture(seed) for seed in range(PICTURES)]
        right = linear_logits(np.stack(pictures), matrix).argmax(axis=1)
        self._asked = [
            (png(picture), int(index)) for picture, index in zip(pictures, right, strict=True)
        ]
        self._address = urlsplit(url).netloc
        self._clients = clients
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.tally = Tally()

    @contextmanager
    def asking(self) -> Iterator[Tally]:
        """Ask as long as the context lasts, or until every client was refused."""
        threads = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(self._clients)
        ]
        for thread in threads:
            thread.start()
        try:
            yield self.tally
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join()

    def wait_for(self, answered: int) -> None:
        """Wait until so many more requests were answered."""
        until = self.tally.answered + answered
        deadline = time.monotonic() + ANSWER_SECONDS
        while self.tally.answered < until:
            assert time.monotonic() < deadline, self.tally
            time.sleep(0.001)

    def _ask(self, number: int) -> None:
        connection: http.client.HTTPConnection | None = None
        turn = number
        while not self._stopping.is_set():
            if connection is None:
                connection = http.client.HTTPConnection(self._address, timeout=ANSWER_SECONDS)
                try:
                    connection.connect()
                except ConnectionError:
                    self._note("refused")
                    return
            if not self._one(connection, *self._asked[turn % PICTURES]):
                connection.close()
                connection = None
            turn += 1
        if connection is not None:
            connection.close()

    def _one(self, connection: http.client.HTTPConnection, body: bytes, right: int) -> bool:
        """Send one request; whether its connection may be used again."""
        begun = time.perf_counter()
        try:
            connection.request("POST", "/predict", body, {"Content-Type": "image/png"})
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException) as error:
            self._lose(repr(error))
            return False
        if response.status == 503:
            self._note("unavailable")
        elif response.status != 200 or answer["predictions"][0]["argmax"] != right:
            self._lose(f"{response.status}: {answer}")
        else:
            self.tally.seconds.append(time.perf_counter() - begun)
            self._note("answered")
        if response.will_close:
            self._note("closing")
        return not response.will_close

    def _note(self, what: str) -> None:
        with self._lock:
            setattr(self.tally, what, getattr(self.tally, what) + 1)

    def _lose(self, how: str) -> None:
        with self._lock:
            self.tally.lost.append(how)
