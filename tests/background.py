"""What goes on beside a test."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeated(action: Callable[[], object], *, threads: int = 1) -> Iterator[None]:
    """Do it again and again in so many threads, until the block ends."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.is_set():
            action()

    started = [threading.Thread(target=repeat) for _ in range(threads)]
    for thread in started:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in started:
            thread.join()
