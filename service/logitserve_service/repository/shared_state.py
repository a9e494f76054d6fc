"""What workers tell each other about models: files in the folder that they share.

`wanted.json` says what was ordered by hand; every worker polls it, one that is started reads it.
Each worker has a file that says which order it has carried out. It holds a lock on that file as
long as it lives, however it ends, so nobody waits for the dead.
"""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import orjson

_WANTED = "wanted.json"
_LOCK = "wanted.lock"
_WORKERS = "workers"
_SAID = "said"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of the models, beyond what the settings say."""

    order: int = 0
    """Number of the last order; each has its own."""
    default: str | None = None
    """The model that is asked when none is named; settled when the service starts."""
    unloaded: tuple[str, ...] = ()
    """Models that were unloaded by hand."""
    loads: Mapping[str, int] = field(default_factory=dict)
    """Model → the order that last asked to load it."""

    def with_load(self, name: str) -> "Wanted":
        """The same after the order to load a model."""
        order = self.order + 1
        kept = tuple(other for other in self.unloaded if other != name)
        return replace(self, order=order, unloaded=kept, loads={**self.loads, name: order})

    def with_unload(self, name: str) -> "Wanted":
        """The same after the order to unload a model."""
        return replace(self, order=self.order + 1, unloaded=tuple(sorted({*self.unloaded, name})))


class Coordination:
    """One worker's view of the shared folder."""

    def __init__(self, shared: Path) -> None:
        self._folder = shared / "models"
        for name in (_WORKERS, _SAID):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        self._own: int | None = None

    def wanted(self) -> Wanted | None:
        """What is wanted now; None before anybody has said."""
        try:
            document = orjson.loads((self._folder / _WANTED).read_bytes())
        except FileNotFoundError:
            return None
        return Wanted(**{**document, "unloaded": tuple(document["unloaded"])})

    def begin(self, wanted: Wanted) -> None:
        """Say for the first time what is wanted, unless another worker has done so."""
        self.order(lambda _: wanted, only_first=True)

    def order(self, change: Callable[[Wanted], Wanted], *, only_first: bool = False) -> Wanted:
        """Change what is wanted; nobody else changes it meanwhile.

        Args:
            change: what is wanted → what is wanted from now on.
            only_first: whether to leave what somebody has said before.

        Returns:
            what is wanted from now on.
        """
        with (self._folder / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # given back when it is closed
            said = self.wanted()
            if said is not None and only_first:
                return said
            wanted = change(said or Wanted())
            self._write(wanted)
        return wanted

    def done(self, order: int) -> None:
        """Say that this worker has carried out all orders up to this one."""
        if self._own is None:
            path = self._folder / _WORKERS / str(os.getpid())
            path.unlink(missing_ok=True)  # of a dead worker that had the same number
            self._own = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._own, fcntl.LOCK_EX)
        os.pwrite(self._own, b"%020d" % order, 0)

    def is_first(self, said: str) -> bool:
        """Whether no worker has said this before."""
        name = hashlib.sha256(said.encode()).hexdigest()
        try:
            (self._folder / _SAID / name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def leave(self) -> None:
        """Let nobody wait for this worker any more."""
        if self._own is not None:
            (self._folder / _WORKERS / str(os.getpid())).unlink(missing_ok=True)
            os.close(self._own)
            self._own = None

    def pending(self, order: int) -> int:
        """How many living workers have not yet carried out an order."""
        return sum(
            _lives(path) and _carried_out(path) < order
            for path in (self._folder / _WORKERS).iterdir()
        )

    def _write(self, wanted: Wanted) -> None:
        descriptor, name = tempfile.mkstemp(dir=self._folder)
        os.close(descriptor)
        Path(name).write_bytes(orjson.dumps(asdict(wanted)))
        Path(name).replace(self._folder / _WANTED)


def _lives(path: Path) -> bool:
    """Whether the worker of a file still holds its lock."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def _carried_out(path: Path) -> int:
    try:
        return int(path.read_bytes() or b"0")
    except FileNotFoundError:
        return 0
