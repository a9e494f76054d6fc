"""Units scored by actors of a Ray cluster.

Plain actors, not Ray Data: its writers name files anew in each run and each attempt, and it has no
memory of a run before; here a part is a unit, whoever scored it, and only one process writes.
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

from logitserve.bulk.scorer import Job, Part, Scorer
from logitserve.bulk.sources import Unit
from logitserve.errors import EngineError, ExtraMissingError, LogitserveError
from logitserve.inference.runtime import available_cpus

MAX_DEATHS: Final = 3
"""Actors that a unit, or the start of one after another, may cost before the run ends."""

CONNECT_SECONDS: Final = 5

PATIENCE_SECONDS: Final = 20
"""After that it is said that the cluster has no CPU to spare."""

_LOOPBACK: Final = "127.0.0.2"
"""Ray puts the machine's outward address in the place of 127.0.0.1."""

_OBJECT_STORE_BYTES: Final = 256 * 2**20


@contextmanager
def cluster(address: str | None, *, workers: int | None) -> Iterator["Cluster"]:
    """Join a cluster, or start one on this machine that lives as long as the block.

    Args:
        address: `host:port` of a cluster's head, or `auto`; None for one of our own.
        workers: actors; None for one a CPU of the cluster.

    Raises:
        ExtraMissingError: there is no Ray.
        EngineError: the cluster cannot be joined.
    """
    if address is None:
        # Else Ray makes a token and leaves it in the home folder, where later clusters find it.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    elif address != "auto":
        _check_answers(address)
    ray = _quiet_ray()
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    with (
        tempfile.TemporaryDirectory(prefix="logitserve-", ignore_cleanup_errors=True) as folder,
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),  # where a thread of Ray's prints paragraphs about lost machines
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
            yield Cluster(ray, workers or int(ray.cluster_resources().get("CPU", 1)))
        finally:
            ray.shutdown()


def _check_answers(address: str) -> None:
    """Ray itself tries for more than a minute."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise EngineError(
            f"{address!r} is no address of a Ray cluster; give HOST:PORT of its head, as "
            "`ray start --head` prints it, or auto"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise EngineError(f"no Ray cluster answers at {address}: {error}") from error


def _quiet_ray() -> ModuleType:
    """Import Ray so that it calls nobody and says nothing."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a warning, of no use here
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ExtraMissingError("ray", error.name or "ray") from error
    module: ModuleType = ray
    return module


class Cluster:
    """A cluster that was joined, and its actors, each with one `Scorer` on one CPU.

    An actor that is lost with its machine is started again where there is a CPU, and what it had in
    hand is scored by another. More actors than there are CPUs wait for machines that join later.
    """

    def __init__(self, ray: ModuleType, workers: int) -> None:
        self.workers = workers
        self._ray = ray
        self._starting: dict[Any, Any] = {}
        self._working: dict[Any, tuple[Any, int]] = {}
        self._failed_starts = 0

    def score_units(
        self, job: Job, units: Sequence[tuple[int, Unit]], *, notice: Callable[[str], None]
    ) -> Generator[tuple[int, Part], None, None]:
        """Score units, each in one of the actors; parts come as they are done.

        Args:
            job: what to do with each.
            units: with their numbers.
            notice: is told what a person should know.

        Raises:
            EngineError: actors do not start, or die of a unit again and again.
            SourceError: a machine of the cluster does not find a source.
        """
        there = dict(units)
        waiting = deque(there)
        deaths: Counter[int] = Counter()
        stored = self._ray.put(job)
        for _ in range(min(self.workers, len(waiting))):
            self._start(stored)
        while waiting or self._working:
            for ref in self._finished(notice):
                actor = self._starting.pop(ref, None)
                number = None
                if actor is None:
                    actor, number = self._working.pop(ref)
                try:
                    part = self._got(ref)
                except self._losses() as error:
                    self._count(number, deaths, error)
                    if number is not None:
                        notice(f"lost the actor that had part {number} in hand; scoring it again")
                        waiting.appendleft(number)
                    self._ray.kill(actor)
                    self._start(stored)
                    continue
                self._failed_starts = 0
                if waiting:
                    given = waiting.popleft()
                    self._working[actor.score.remote(there[given])] = (actor, given)
                if number is not None:
                    yield number, part

    def _start(self, job: Any) -> None:
        options = {"num_cpus": 1, "scheduling_strategy": "SPREAD"}
        actor = self._ray.remote(**options)(Scorer).remote(job)
        self._starting[actor.ready.remote()] = actor

    def _finished(self, notice: Callable[[str], None]) -> list[Any]:
        """Answers that have come; at least one."""
        refs = [*self._starting, *self._working]
        timeout = None if self._working else PATIENCE_SECONDS
        ready, _ = self._ray.wait(refs, timeout=timeout)
        if not ready:
            notice("waiting for the cluster to have a CPU to spare")
            ready, _ = self._ray.wait(refs)
        return list(ready)

    def _got(self, ref: Any) -> Any:
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, LogitserveError):
                raise error.cause from error
            raise EngineError(f"an actor failed: {_line(error)}") from error

    def _losses(self) -> tuple[type[Exception], ...]:
        """What Ray raises for an actor or an answer that went down with its machine."""
        errors = self._ray.exceptions
        return (errors.RayActorError, errors.ObjectLostError, errors.NodeDiedError)

    def _count(self, number: int | None, deaths: Counter[int], error: Exception) -> None:
        if number is None:
            self._failed_starts += 1
            if self._failed_starts >= MAX_DEATHS:
                raise EngineError(f"the actors do not start: {_line(error)}") from error
            return
        deaths[number] += 1
        if deaths[number] >= MAX_DEATHS:
            raise EngineError(
                f"actors died {MAX_DEATHS} times while they scored part {number}: {_line(error)}; "
                "what is written stays: run the same command again"
            ) from error


def _line(error: Exception) -> str:
    """The last line of an error's text: those of Ray quote whole traces before it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
