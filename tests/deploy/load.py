"""Callers that ask without a pause, and remember what went wrong."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.load.requests import Request, prepared

MAX_REQUESTS_OF_A_CALLER = 20_000


@dataclass
class Load:
    """What callers met so far."""

    answered: int = 0
    lost: list[str] = field(default_factory=list)
    """Requests that were sent and got no right answer."""
    ended: threading.Event = field(default_factory=threading.Event)

    def ask(self, client: httpx.Client, request: Request) -> bool:
        """Send one; False if nobody listens any more."""
        try:
            answer = client.post(request.path, content=request.body, headers=request.headers)
        except httpx.ConnectError as error:
            if "refused" in str(error):
                return False
            self.lost.append(f"{request.kind}: {error!r}")
        except httpx.HTTPError as error:
            self.lost.append(f"{request.kind}: {error!r}")
        else:
            self._judge(request, answer)
        return True

    def _judge(self, request: Request, answer: httpx.Response) -> None:
        if answer.status_code != 200:
            self.lost.append(f"{request.kind}: {answer.status_code} {answer.text[:200]}")
        elif wrong := request.wrong(answer.content):
            self.lost.append(wrong)
        else:
            self.answered += 1

    def _call(self, number: int, options: dict[str, Any]) -> None:
        requests = [request for kind in prepared(seed=number).values() for request in kind]
        with httpx.Client(timeout=30, **options) as client:
            turns = itertools.islice(itertools.cycle(requests), MAX_REQUESTS_OF_A_CALLER)
            while not self.ended.is_set() and self.ask(client, next(turns)):
                pass


@contextmanager
def loading(callers: int, **options: Any) -> Iterator[Load]:
    """Load a service until the block ends, or nobody listens there any more.

    Args:
        callers: that ask at the same time, each on a connection that it keeps.
        options: of their `httpx.Client`.
    """
    load = Load()
    threads = [threading.Thread(target=load._call, args=(n, options)) for n in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.ended.set()
        for thread in threads:
            thread.join()
