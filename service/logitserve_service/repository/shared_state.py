"""State that the workers of a service share: one JSON document in memory.

The memory is allocated before the workers are forked. A change is written to the half that is not
being read, so a worker can be killed at any time; its lock is then released.
"""

import fcntl
import mmap
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from threading import Lock
from typing import Any, Final

import orjson

from logitserve.inference.errors import ModelFileError
from logitserve.inference.model_file import Reading
from logitserve.inference.model_file import Signature as FileStat
from logitserve.inference.rollout import Rollout
from logitserve_service.repository.file_store import FileStore, StoredFile

MAX_BYTES: Final = 2**24
"""Maximum size of the document. The kernel allocates a page on its first write."""
_HEAD: Final = 8
_LENGTH: Final = 8
_REMEMBERED: Final = 10_000
"""Maximum number of remembered versions, and of remembered messages."""
_PATIENCE: Final = 3
"""Exits of workers after which a version is refused that another worker could load."""
_LAST: Final = ""
"""Stands for the last worker that ended, while no worker serves."""


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


@dataclass(slots=True)
class _Document:
    desired: dict[str, Any] | None = None
    reached: dict[str, int] = field(default_factory=dict)  # worker → generation it has reached
    loading: dict[str, str] = field(default_factory=dict)  # worker → version it is loading
    loaded: dict[str, None] = field(default_factory=dict)  # versions that a worker has loaded
    exits: dict[str, int] = field(
        default_factory=dict
    )  # version → workers that exited while loading it
    refused: dict[str, str] = field(default_factory=dict)  # version → reason; "" if not refused
    logged: dict[str, None] = field(default_factory=dict)
    rollouts: dict[str, dict[str, Any]] = field(default_factory=dict)  # in force, by model
    served: dict[str, list[str]] = field(default_factory=dict)  # worker → versions it serves
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)  # version → its `StoredFile`
    end: int = 0  # end offset of the stored files
    notes: dict[str, Any] = field(default_factory=dict)  # notes of other modules, such as drift

    def state(self) -> DesiredState | None:
        if self.desired is None:
            return None
        return DesiredState(**{**self.desired, "unloaded": tuple(self.desired["unloaded"])})


def _kept(fields: Mapping[str, Any]) -> StoredFile:
    return StoredFile(**{**fields, "file": FileStat(**fields["file"])})


def _trim(known: dict[str, Any]) -> None:
    for old in list(known)[:-_REMEMBERED]:
        del known[old]


class SharedState:
    """The shared document. A worker is identified by its process id."""

    def __init__(self) -> None:
        self._file = os.memfd_create("logitserve-state")
        weakref.finalize(self, os.close, self._file)
        os.ftruncate(self._file, _HEAD + 2 * MAX_BYTES)
        self._memory = memoryview(mmap.mmap(self._file, _HEAD + 2 * MAX_BYTES))
        self._changes = self._memory[:_HEAD].cast("q")
        self._store = FileStore()
        self._lock = Lock()  # between threads; the file lock is between processes
        self._write(_Document())
        self._seen: tuple[int, DesiredState | None] = (-1, None)

    def desired(self) -> DesiredState | None:
        """The desired state; None before the first worker has set it."""
        changes = self._changes[0]
        if changes != self._seen[0]:
            with self._locked():
                self._seen = self._changes[0], self._read().state()
        return self._seen[1]

    def initialize(self, state: DesiredState) -> None:
        """Set the desired state, unless another worker has set it."""
        with self._changed() as document:
            if document.desired is None:
                document.desired = orjson.loads(orjson.dumps(state))

    def update(self, change: Callable[[DesiredState], DesiredState]) -> DesiredState:
        """Change the desired state atomically, and return the new one."""
        with self._changed() as document:
            state = change(document.state() or DesiredState())
            document.desired = orjson.loads(orjson.dumps(state))
        return state

    def rollouts(self) -> dict[str, Rollout]:
        """Return the rollouts in force by model."""
        with self._locked():
            return {name: Rollout.read(each) for name, each in self._read().rollouts.items()}

    def roll_out(self, name: str, rollout: Rollout) -> None:
        """Put a rollout in force for workers that start from now on."""
        with self._changed() as document:
            document.rollouts[name] = rollout.model_dump(mode="json")

    def done(self, generation: int) -> None:
        """Record that this worker has reached a generation."""
        with self._changed() as document:
            document.reached[str(os.getpid())] = generation

    def pending(self, generation: int) -> int:
        """Return the number of live workers that have not reached a generation."""
        with self._locked():
            return sum(reached < generation for reached in self._read().reached.values())

    def leave(self) -> None:
        """Remove this worker from those that `pending` counts."""
        with self._changed() as document:
            document.reached.pop(str(os.getpid()), None)

    def first_to_log(self, message: str) -> bool:
        """Return whether a message is new to all workers, and record it."""
        with self._changed() as document:
            is_first = message not in document.logged
            document.logged[message] = None
        return is_first

    @contextmanager
    def notes(self) -> Iterator[dict[str, Any]]:
        """Open the notes of other modules; they are saved as JSON when the block ends."""
        with self._changed() as document:
            yield document.notes

    def keep(self, version: str, name: str, number: str, file: FileStat, content: Reading) -> None:
        """Store the bytes of a version that this worker has loaded, until no worker serves it."""
        with self._changed() as document:
            document.served.setdefault(str(os.getpid()), []).append(version)
            if version in document.kept:
                return
            same = [each for each in document.kept.values() if each["sha256"] == content.sha256]
            offset = same[0]["offset"] if same else document.end
            kept = StoredFile(name, number, file, offset, content.sha256)
            document.end = max(document.end, kept.end)
            if same:
                document.kept[version] = asdict(kept)
        if not same:
            self._store.write(content, offset)
            with self._changed() as document:
                document.kept[version] = asdict(kept)

    def serve(self, versions: Iterable[str]) -> None:
        """Record the versions that this worker serves, and drop bytes that no worker serves."""
        with self._changed() as document:
            document.served.pop(_LAST, None)
            document.served[str(os.getpid())] = list(versions)

    def kept(self) -> list[StoredFile]:
        """Return the files that the workers serve; without a live worker, those of the last one."""
        with self._locked():
            return [_kept(fields) for fields in self._read().kept.values()]

    def reading(self, version: str) -> AbstractContextManager[Reading] | None:
        """Open the bytes of a version, if they are stored."""
        with self._locked():
            fields = self._read().kept.get(version)
        return None if fields is None else self._store.reading(_kept(fields))

    @contextmanager
    def loading(self, version: str, attempt: int, weigh: Callable[[], str]) -> Iterator[None]:
        """Load a version in this block, unless it is too large or has crashed a worker.

        Args:
            version: identifies the version and its current file.
            attempt: a new number checks the size again.
            weigh: returns why the file is too large, or an empty text. Only the first worker calls
                it, so that
            all workers decide alike.

        Raises:
            ModelFileError: the version is refused.
        """
        me = str(os.getpid())
        with self._changed() as document:
            reason = document.refused.get(version, "")
            if not reason and version not in document.loaded:
                weighed = f"{version} {attempt}"
                if weighed not in document.refused:
                    document.refused[weighed] = weigh()
                reason = document.refused[weighed]
            if not reason:
                document.loading[me] = version
        if reason:
            raise ModelFileError(reason)
        is_loaded = False
        try:
            yield
            is_loaded = True
        finally:
            with self._changed() as document:
                document.loading.pop(me, None)
                if is_loaded:
                    document.loaded[version] = None

    def ended(self, worker: int, reason: str) -> bool:
        """Remove a worker that has exited; return whether it was loading a version.

        That version is refused from now on. If other workers have loaded it, it is refused only
        after several exits, which may have another cause.
        """
        with self._changed() as document:
            document.reached.pop(str(worker), None)
            version = document.loading.pop(str(worker), None)
            served = document.served.pop(str(worker), None)
            if served is not None and not document.served:
                document.served[_LAST] = served
            if version is not None:
                exits = document.exits[version] = document.exits.get(version, 0) + 1
                if version not in document.loaded or exits >= _PATIENCE:
                    document.refused[version] = (
                        f"it ended the process that loaded it ({reason}); put another file in its "
                        "place"
                    )
        return version is not None

    @contextmanager
    def _changed(self) -> Iterator[_Document]:
        """Change the document in this block."""
        with self._locked():
            document = self._read()
            yield document
            for known in (document.loaded, document.exits, document.refused, document.logged):
                _trim(known)
            self._drop_unserved(document)
            self._write(document)

    def _drop_unserved(self, document: _Document) -> None:
        served = set(chain(*document.served.values()))
        dropped = [_kept(document.kept.pop(each)) for each in document.kept.keys() - served]
        offsets = {fields["offset"] for fields in document.kept.values()}
        for kept in {each.offset: each for each in dropped}.values():
            if kept.offset not in offsets:
                self._store.drop(kept)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _half(self, changes: int) -> memoryview:
        start = _HEAD + changes % 2 * MAX_BYTES
        return self._memory[start : start + MAX_BYTES]

    def _read(self) -> _Document:
        half = self._half(self._changes[0])
        length = int.from_bytes(half[:_LENGTH], "little")
        return _Document(**orjson.loads(half[_LENGTH : _LENGTH + length]))

    def _write(self, document: _Document) -> None:
        changes = self._changes[0] + 1
        text = orjson.dumps(document)
        half = self._half(changes)
        half[:_LENGTH] = len(text).to_bytes(_LENGTH, "little")
        half[_LENGTH : _LENGTH + len(text)] = text
        self._changes[0] = changes
