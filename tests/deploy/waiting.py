"""Waiting for a state."""

import time
from collections.abc import Callable

import httpx


def wait_until(state: Callable[[], object], *, seconds: float = 30, what: str) -> None:
    """Ask again and again.

    Raises:
        TimeoutError: it did not come.
    """
    end = time.monotonic() + seconds
    while not state():
        if time.monotonic() > end:
            raise TimeoutError(f"after {seconds:g} s still not: {what}")
        time.sleep(0.05)


def answers(url: str, **options: object) -> bool:
    """Whether a GET is answered with 200 now."""
    try:
        return httpx.get(url, timeout=5, **options).status_code == 200  # type: ignore[arg-type]
    except httpx.TransportError:
        return False
