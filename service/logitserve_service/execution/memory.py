"""Memory for decoded images: a budget of the process, as buffered bodies have one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from logitserve_service.errors import ImageTooLargeError


class DecodedBytes:
    """Limits the bytes that images take together while they are decoded and fitted.

    Threads wait for their turn in the order in which they came, so that a large image is not
    overtaken by small ones for ever.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def reserved(self, size: int) -> Iterator[None]:
        """Wait until so many bytes are free, and take them for the context.

        Raises:
            ImageTooLargeError: the image alone exceeds the limit.
        """
        if size > self._limit:
            raise ImageTooLargeError(size, self._limit)
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._used + size <= self._limit)
            self._used += size
        try:
            yield
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify()
