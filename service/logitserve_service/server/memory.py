"""Memory of the service: what it may use, and how what it frees goes back to the system."""

import ctypes
import gc
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Final

from logitserve_service.config.settings import Settings, environment_name

MMAP_THRESHOLD: Final = 2**18
"""Bytes. What is as large, glibc maps alone, and unmaps when it is freed. Without this, the first
large picture raises the threshold up to 32 MiB: later ones lie among small objects that stay, and
after 500 odd pictures 57 MiB more were resident; with it, 9."""
TRIM_THRESHOLD: Final = 2**20
"""Bytes that may lie free at the end of the heap."""
LARGE_BYTES: Final = 2**22
"""Of the bodies of a second, after which memory is trimmed."""
TRIMS: Final = 5
"""Each second after a large or a refused message."""
MAX_PROTOBUF_BYTES: Final = 2**31 - 1
"""Of a message, and so of an ONNX file."""
COPIES: Final = 2
"""Of a model file while a worker loads it: the file, and the session (docs/scale.md). One more is
kept for all workers."""
IMAGES_SHARE: Final = 3
"""Of the memory that is left to a worker, a third is for images that are decoded."""
BODIES_SHARE: Final = 4
"""A quarter is for the bodies of requests."""
MESSAGES_SHARE: Final = 16
"""A message of gRPC takes at most a sixteenth: gRPC receives each whole before anybody can refuse
it, so that many arrive at once."""
LEAST_MESSAGE_BYTES: Final = 2**22
"""gRPC's own limit of a message."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_CGROUPS: Final = Path("/sys/fs/cgroup")
_PROC: Final = Path("/proc")


def give_back() -> None:
    """Let this process give back what it frees. Does nothing where the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD)


class Trimmer:
    """Trims for some seconds after large requests, as gRPC frees some of their memory later."""

    def __init__(self, released: Callable[[], int], executor: Executor) -> None:
        """`released` tells the bytes of all bodies until now; `executor` runs what takes long."""
        self._released = released
        self._executor = executor
        self._seen = 0
        self._times = 0

    def soon(self) -> None:
        """Trim, though no large body was released."""
        self._times = TRIMS

    def check(self) -> None:
        """Trim if there is reason to; to be called each second."""
        released = self._released()
        if released - self._seen > LARGE_BYTES:
            self.soon()
        self._seen = released
        if self._times:
            self._times -= 1
            self._executor.submit(trim)


def trim() -> None:
    """Give back what lies free between small objects, or waits for the garbage collector.

    Takes milliseconds: what lives as long as the process is frozen.
    """
    gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def limit(cgroups: Path = _CGROUPS, proc: Path = _PROC) -> int:
    """Bytes that the service may use: of its cgroups and the machine, whichever has least."""
    machine = _numbers(proc / "meminfo")["MemTotal:"] * 1024
    return min([machine, *(most for most, _ in _cgroups(cgroups, proc))])


def available(cgroups: Path = _CGROUPS, proc: Path = _PROC) -> int:
    """Bytes that the service may use besides those in use, by whomever."""
    machine = _numbers(proc / "meminfo")["MemAvailable:"] * 1024
    left = min([machine, *(most - used for most, used in _cgroups(cgroups, proc))])
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        pages = int((proc / "self/statm").read_text().split()[0])
        left = min(left, soft - pages * resource.getpagesize())
    return max(0, left)


def share(workers: int, part: int) -> int:
    """Bytes of this part of what is left to one of so many workers."""
    return available() // workers // part


def oom_kills(cgroups: Path = _CGROUPS, proc: Path = _PROC) -> int:
    """How many processes the kernel has killed because the cgroup's memory was exhausted."""
    for folder in _folders(cgroups, proc):
        for name in ("memory.events", "memory.oom_control"):
            kills = _numbers(folder / name).get("oom_kill")
            if kills is not None:
                return kills
    return 0


def too_large(size: int, settings: Settings) -> str:
    """Why a model file of so many bytes is not loaded, or nothing."""
    name = environment_name("max_model_bytes")
    if settings.max_model_bytes is not None:
        most, why = settings.max_model_bytes, f"(setting {name})"
    else:
        left = available()
        most = min(MAX_PROTOBUF_BYTES, left // (COPIES * settings.workers + 1))
        why = (
            f"(setting {name}; unless set, it follows from ONNX's limit of 2 GiB and the {left} "
            "bytes of memory that are left)"
        )
    return "" if size <= most else f"the file has {size} bytes, more than the limit of {most} {why}"


def _cgroups(cgroups: Path, proc: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of each cgroup of this process that has a limit, without reclaimable cache."""
    for folder in _folders(cgroups, proc):
        statistics = _numbers(folder / "memory.stat")
        for most, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            try:
                found = int((folder / most).read_text()), int((folder / used).read_text())
            except (OSError, ValueError):  # another version, the root, or no limit ("max")
                continue
            yield found[0], found[1] - statistics.get(cache, 0)


def _folders(cgroups: Path, proc: Path) -> Iterator[Path]:
    """Those of this process's cgroup and of its parents; in a container, the mount itself."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in {"", "memory"}:
            root = cgroups / controllers
            own = root / path.lstrip("/")
            yield from (each for each in (own, *own.parents) if each.is_relative_to(root))


def _numbers(file: Path) -> dict[str, int]:
    """The lines of a name and a number; none where there is no such file."""
    try:
        fields = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {pair[0]: int(pair[1]) for pair in fields if len(pair) > 1 and pair[1].isdigit()}
