"""Memory of the service: its limits, and how freed memory returns to the system."""

import ctypes
import gc
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Final

from logitserve_service.config.settings import Settings, environment_name

MMAP_THRESHOLD: Final = 2**19
"""Bytes. glibc maps allocations of this size or more separately, and unmaps them when freed. By
default, the first large picture raises the threshold up to 32 MiB: later pictures lie between small
objects that stay, and after 500 odd pictures 57 MiB more were resident; with a fixed threshold of
256 KiB, 9. Colors of 280×280 pixels are below this one: mapped each time, they took half as long
again."""
TRIM_THRESHOLD: Final = 2**20
"""Free bytes at the end of the heap that glibc keeps."""
LARGE_BYTES: Final = 2**22
"""Bytes of released bodies in one second after which memory is trimmed."""
TRIMS: Final = 5
"""Number of trims, one each second, after large bodies or a refused message."""
MAX_PROTOBUF_BYTES: Final = 2**31 - 1
"""Maximum size of a protobuf message, and so of an ONNX file."""
COPIES: Final = 2
"""Copies of a model file while a worker loads it: the file and the session (docs/scale.md). One
more is stored for all workers."""
IMAGES_SHARE: Final = 3
"""Decoded images may use a third of the memory available to a worker."""
BODIES_SHARE: Final = 4
"""Request bodies may use a quarter of it."""
MESSAGES_SHARE: Final = 16
"""A gRPC message may use a sixteenth of it: gRPC receives each completely before it can be refused,
so many can arrive at once."""
LEAST_MESSAGE_BYTES: Final = 2**22
"""gRPC's default limit of a message."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_CGROUPS: Final = Path("/sys/fs/cgroup")
_PROC: Final = Path("/proc")


def give_back() -> None:
    """Make this process return freed memory to the system. Has no effect without glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD)


class Trimmer:
    """Trims for some seconds after large requests, because gRPC frees their memory with a delay."""

    def __init__(self, released: Callable[[], int], executor: Executor) -> None:
        """`released` returns the total bytes of released bodies; `executor` runs the trims."""
        self._released = released
        self._executor = executor
        self._seen = 0
        self._times = 0

    def soon(self) -> None:
        """Trim in the next seconds, even if no large body was released."""
        self._times = TRIMS

    def check(self) -> None:
        """Trim if large bodies were released; to be called each second."""
        released = self._released()
        if released - self._seen > LARGE_BYTES:
            self.soon()
        self._seen = released
        if self._times:
            self._times -= 1
            self._executor.submit(trim)


def trim() -> None:
    """Return free memory between small objects, and garbage, to the system.

    This takes milliseconds, because objects that live as long as the process are frozen.
    """
    gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def limit(cgroups: Path = _CGROUPS, proc: Path = _PROC) -> int:
    """Return the memory limit of the service in bytes, the lowest of cgroups and machine."""
    machine = _numbers(proc / "meminfo")["MemTotal:"] * 1024
    return min([machine, *(most for most, _ in _cgroups(cgroups, proc))])


def available(cgroups: Path = _CGROUPS, proc: Path = _PROC) -> int:
    """Return the available bytes, the lowest of cgroups, machine and `ulimit -v`."""
    machine = _numbers(proc / "meminfo")["MemAvailable:"] * 1024
    left = min([machine, *(most - used for most, used in _cgroups(cgroups, proc))])
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        pages = int((proc / "self/statm").read_text().split()[0])
        left = min(left, soft - pages * resource.getpagesize())
    return max(0, left)


def share(workers: int, part: int) -> int:
    """Return `1 / part` of the available bytes of one of `workers` workers."""
    return available() // workers // part


def oom_kills(cgroups: Path = _CGROUPS, proc: Path = _PROC) -> int:
    """Return how many processes the kernel has killed because the cgroup was out of memory."""
    for folder in _folders(cgroups, proc):
        for name in ("memory.events", "memory.oom_control"):
            kills = _numbers(folder / name).get("oom_kill")
            if kills is not None:
                return kills
    return 0


def too_large(size: int, settings: Settings) -> str:
    """Return why a model file of `size` bytes is too large to load, or an empty text."""
    name = environment_name("max_model_bytes")
    if settings.max_model_bytes is not None:
        most, why = settings.max_model_bytes, f"(setting {name})"
    else:
        left = available()
        most = min(MAX_PROTOBUF_BYTES, left // (COPIES * settings.workers + 1))
        why = (
            f"(setting {name}; unless set, it follows from ONNX's limit of 2 GiB and the {left} "
            "bytes of available memory)"
        )
    return "" if size <= most else f"the file has {size} bytes, more than the limit of {most} {why}"


def _cgroups(cgroups: Path, proc: Path) -> Iterator[tuple[int, int]]:
    """Yield limit and use, without reclaimable cache, of each limited cgroup of this process."""
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
    """Yield the folders of this process's cgroup and its parents; in a container, the mount."""
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
    """Parse lines of a name and a number; empty if there is no such file."""
    try:
        fields = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {pair[0]: int(pair[1]) for pair in fields if len(pair) > 1 and pair[1].isdigit()}
