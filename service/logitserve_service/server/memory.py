"""Memory that a large picture needed goes back to the system when the picture has been answered."""

import ctypes
from pathlib import Path
from typing import Final

MMAP_THRESHOLD: Final = 2**18
"""Bytes. What is as large, glibc maps alone, and unmaps when it is freed. Without this, the first
large picture raises the threshold up to 32 MiB: later ones lie among small objects that stay, and
after 500 odd pictures 57 MiB more were resident; with it, 9 (`make odd`)."""
TRIM_THRESHOLD: Final = 2**20
"""Bytes that may lie free at the end of the heap."""

IMAGES_SHARE: Final = 3
"""Of the memory that is left to a worker, a third is for images that are decoded."""
BODIES_SHARE: Final = 4
"""A quarter is for the bodies of requests."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def give_back() -> None:
    """Let this process give back what it frees. Does nothing where the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD)


def available() -> int:
    """Bytes that the service may use besides those in use, by whomever."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def share(workers: int, part: int) -> int:
    """Bytes of this part of what is left to one of so many workers."""
    return available() // workers // part
