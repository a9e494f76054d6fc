"""Score units in tasks of a Ray cluster.

Plain tasks, not Ray Data: its writers choose new file names in each run, and it cannot resume a
previous run. Here each unit is one part, whichever worker scores it, and one process writes.
"""

import logging
import os
import secrets
import socket
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from logitserve.bulk.scorer import Job, Part, score_unit
from logitserve.bulk.sources import Unit
from logitserve.errors import EngineError, ExtraMissingError, LogitserveError
from logitserve.inference.runtime import available_cpus

MAX_DEATHS: Final = 3
"""Worker deaths allowed per unit before the run ends."""

CONNECT_SECONDS: Final = 5

PATIENCE_SECONDS: Final = 60
"""Seconds without a finished part before a notice."""

_LOOPBACK: Final = "127.0.0.2"
"""Ray replaces 127.0.0.1 with the machine's external address, but not this one."""

_OBJECT_STORE_BYTES: Final = 256 * 2**20


def score_units(
    job: Job,
    units: Sequence[tuple[int, Unit]],
    *,
    address: str | None,
    workers: int | None,
    notice: Callable[[str], None],
) -> Generator[tuple[int, Part], None, None]:
    """Score numbered units, each in a task on one CPU; yield parts in the order of completion.

    If a worker or its machine is lost, its unit is scored by another. If there are more workers
    than CPUs, the rest wait for machines that join later.

    Args:
        job: model and options.
        units: number and unit.
        address: `host:port` of a cluster's head, or `auto`; None starts a local cluster.
        workers: concurrent tasks; None for one per CPU of the cluster.
        notice: called with messages for the user.

    Raises:
        ExtraMissingError: Ray is not installed.
        EngineError: the cluster cannot be joined, or a unit killed its worker repeatedly.
        SourceError: a source does not exist on a machine of the cluster.
    """
    with _cluster(address, workers) as ray:
        workers = workers or int(ray.cluster_resources().get("CPU", 1))
        options = {"num_cpus": 1, "max_retries": 0, "scheduling_strategy": "SPREAD"}
        task, stored = ray.remote(**options)(score_unit), ray.put(job)
        errors = ray.exceptions
        losses = (
            *(errors.WorkerCrashedError, errors.NodeDiedError),
            *(errors.ObjectLostError, errors.OutOfMemoryError),
        )
        waiting, deaths = deque(units), Counter[int]()
        running: dict[Any, tuple[int, Unit]] = {}
        timeout: float | None = PATIENCE_SECONDS
        while waiting or running:
            while waiting and len(running) < workers:
                number, unit = waiting.popleft()
                running[task.remote(stored, unit)] = number, unit
            ready, _ = ray.wait(list(running), timeout=timeout)
            timeout = None
            if not ready:
                notice(f"no part after {PATIENCE_SECONDS} s; does the cluster have a free CPU?")
            for ref in ready:
                number, unit = running.pop(ref)
                try:
                    part = ray.get(ref)
                except losses as error:
                    deaths[number] += 1
                    if deaths[number] == MAX_DEATHS:
                        raise EngineError(
                            f"workers died {MAX_DEATHS} times while they scored part {number}: "
                            f"{_line(error)}; the written parts remain: run the same command again"
                        ) from error
                    notice(f"the worker that scored part {number} was lost; scoring it again")
                    waiting.appendleft((number, unit))
                except errors.RayTaskError as error:
                    if isinstance(error.cause, LogitserveError):
                        raise error.cause from error
                    raise EngineError(f"a worker failed: {_line(error)}") from error
                else:
                    yield number, part


@contextmanager
def _cluster(address: str | None, workers: int | None) -> Iterator[ModuleType]:
    """Join a cluster, or start one on this machine that stops at the end of the block."""
    if address is None:
        # Otherwise Ray writes a token into the home folder, where later clusters read it.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    elif address != "auto":
        _check_answers(address)
    ray = _quiet_ray()
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    with (
        tempfile.TemporaryDirectory(prefix="logitserve-", ignore_cleanup_errors=True) as folder,
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),  # a thread of Ray prints paragraphs about lost machines
    ):
        try:
            if address is None:
                ray.init(
                    address="local",
                    num_cpus=workers or available_cpus(),
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    _node_ip_address=_LOOPBACK,
                    _temp_dir=folder,
                    **quiet,
                )
            else:
                ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = "start" if address is None else f"join the Ray cluster at {address}"
            raise EngineError(f"cannot {where}: {_line(error)}") from error
        try:
            yield ray
        finally:
            ray.shutdown()


def _check_answers(address: str) -> None:
    """Check that the address answers; Ray itself retries for more than a minute."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise EngineError(
            f"{address!r} is not an address of a Ray cluster; give HOST:PORT of its head, as "
            "`ray start --head` prints it, or auto"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise EngineError(f"no Ray cluster answers at {address}: {error}") from error


def _quiet_ray() -> ModuleType:
    """Import Ray without usage reports and log messages."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # avoids a warning
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ExtraMissingError("ray", error.name or "ray") from error
    module: ModuleType = ray
    return module


def _line(error: Exception) -> str:
    """Return the last line of an error's text; Ray's errors quote whole tracebacks before it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
