"""State that the workers of a service share, as files in a folder.

Load and unload requests change `desired.json`, which every worker polls. Each worker writes the
generation that it has reached into a file, and locks it: a dead worker is not waited for.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import orjson


@dataclass(frozen=True, slots=True)
class DesiredState:
    """The default model, and the effect of load and unload requests."""

    generation: int = 0  # number of the last change
    default: str | None = None
    unloaded: tuple[str, ...] = ()
    loads: Mapping[str, int] = field(default_factory=dict)  # model → generation of its last load

    def with_load(self, name: str) -> "DesiredState":
        """The next generation, with a load request."""
        unloaded = tuple(other for other in self.unloaded if other != name)
        generation = self.generation + 1
        return DesiredState(generation, self.default, unloaded, {**self.loads, name: generation})

    def with_unload(self, name: str) -> "DesiredState":
        """The next generation, with a model unloaded."""
        unloaded = tuple(sorted({*self.unloaded, name}))
        return replace(self, generation=self.generation + 1, unloaded=unloaded)


class SharedState:
    """One worker's access to the shared folder."""

    def __init__(self, shared: Path) -> None:
        self._folder = shared / "models"
        self._desired = self._folder / "desired.json"
        self._workers = self._folder / "workers"
        self._logged = self._folder / "logged"
        for folder in (self._workers, self._logged):
            folder.mkdir(parents=True, exist_ok=True)
        self._own: int | None = None

    def desired(self) -> DesiredState | None:
        """The desired state; None before the first worker has set it."""
        try:
            document = orjson.loads(self._desired.read_bytes())
        except FileNotFoundError:
            return None
        return DesiredState(**{**document, "unloaded": tuple(document["unloaded"])})

    def initialize(self, state: DesiredState) -> None:
        """Set the desired state, unless another worker has."""
        with self._locked():
            if self.desired() is None:
                self._write(state)

    def update(self, change: Callable[[DesiredState], DesiredState]) -> DesiredState:
        """Change the desired state atomically, and return the new one."""
        with self._locked():
            state = change(self.desired() or DesiredState())
            self._write(state)
        return state

    def done(self, generation: int) -> None:
        """Record that this worker has reached a generation."""
        if self._own is None:
            path = self._workers / str(os.getpid())
            path.unlink(missing_ok=True)  # of a dead worker with the same process id
            self._own = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._own, fcntl.LOCK_EX)
        os.pwrite(self._own, b"%020d" % generation, 0)

    def pending(self, generation: int) -> int:
        """Number of live workers that have not reached a generation."""
        return sum(_is_behind(path, generation) for path in self._workers.iterdir())

    def first_to_log(self, message: str) -> bool:
        """Whether no worker has logged a message yet; records that one has."""
        name = hashlib.sha256(message.encode()).hexdigest()
        try:
            (self._logged / name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def leave(self) -> None:
        """Remove this worker from those that are waited for."""
        if self._own is not None:
            (self._workers / str(os.getpid())).unlink(missing_ok=True)
            os.close(self._own)
            self._own = None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / "desired.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released by closing the file
            yield

    def _write(self, state: DesiredState) -> None:
        """Replace the file by a rename: readers take no lock."""
        draft = self._desired.with_suffix(".new")
        draft.write_bytes(orjson.dumps(asdict(state)))
        draft.replace(self._desired)


def _is_behind(path: Path, generation: int) -> bool:
    """Whether the worker of a file is alive and has not reached a generation."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:  # locked: the worker is alive
            return int(file.read() or b"0") < generation
    return False
