"""The memory budget of a process for decoded images."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from logitserve_service.errors import ImageTooLargeError


class DecodedBytes:
    """Limits the total bytes of images that are being decoded and fitted.

    Threads are served in order of arrival, so that small images cannot delay a large one for ever.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def reserved(self, size: int) -> Iterator[None]:
        """Wait until `size` bytes are free, and reserve them for the context.

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
