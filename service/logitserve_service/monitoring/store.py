"""The store: one SQLite file per host with answers, pictures and true labels.

No API key, address, header or file name is stored. Ids begin with their time, so tables are in
order of time.
"""

import mmap
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from logitserve.inference.card import ModelCard
from logitserve_service.errors import StartError, StoreError

APPLICATION_ID: Final = 0x4C4F4749  # "LOGI"
SCHEMA_VERSION: Final = 1
BUSY_SECONDS: Final = 5.0
DAY_SECONDS: Final = 86_400
TABLES: Final = ("answer", "picture", "feedback")
"""Tables whose keys begin with the prediction id."""

_SCHEMA: Final = """
CREATE TABLE model(key INTEGER PRIMARY KEY, card TEXT);
CREATE TABLE answer(
    id BLOB PRIMARY KEY, at INTEGER, model INTEGER, argmax INTEGER, probability REAL,
    known INTEGER, chance REAL, logits BLOB) WITHOUT ROWID;
CREATE TABLE picture(id BLOB PRIMARY KEY, png BLOB) WITHOUT ROWID;
CREATE TABLE feedback(
    id BLOB, source TEXT, at REAL, labels TEXT, PRIMARY KEY(id, source)) WITHOUT ROWID;
"""


Label = tuple[bytes, str, float, str]
"""Id, source, Unix time, and the labels as a JSON list."""


class Store:
    """The store file. A connection is opened for each use, because a fork must not inherit one."""

    def __init__(self, path: Path) -> None:
        """Open the store; a missing file is created.

        Raises:
            StartError: the file cannot be opened, or is not a store of this version.
        """
        self.path = path
        try:
            path.touch(mode=0o600)
            with closing(self._connect()) as opened:
                self._prepare(opened)
        except (OSError, sqlite3.Error) as error:
            raise StartError(
                f"the store {path} cannot be opened: {error}; name another with --store"
            ) from error

    def _connect(self) -> sqlite3.Connection:
        opened = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        opened.row_factory = sqlite3.Row
        opened.execute("PRAGMA synchronous = NORMAL")
        opened.execute("PRAGMA secure_delete = ON")
        return opened

    def _prepare(self, opened: sqlite3.Connection) -> None:
        found = [value(opened, f"PRAGMA {name}") for name in ("application_id", "user_version")]
        if not any(found) and not value(opened, "SELECT count(*) FROM sqlite_master"):
            opened.execute("PRAGMA auto_vacuum = INCREMENTAL")
            opened.execute("PRAGMA journal_mode = WAL")
            opened.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID};"
                f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"
            )
        elif found != [APPLICATION_ID, SCHEMA_VERSION]:
            raise StartError(
                f"{self.path} is not a store of this version: its schema is {found[1]}, not "
                f"{SCHEMA_VERSION}; move it away, or name another with --store, and one is made"
            )

    @contextmanager
    def transaction(
        self, *, write: bool = False, other: Path | None = None
    ) -> Iterator[sqlite3.Connection]:
        """Open a transaction; another store can be attached as `other`.

        Raises:
            StoreError: the store is locked for too long, or its disk is full.
        """
        try:
            with closing(self._connect()) as opened:
                if other is not None:
                    opened.execute("ATTACH ? AS other", (f"{other}",))
                opened.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                yield opened  # closing before COMMIT rolls back
                opened.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(error) from error

    def models(self) -> dict[int, ModelCard]:
        """Return key → card of the models with stored answers; cards have one golden each."""
        with self.transaction() as opened:
            return {key: _card(text) for key, text in opened.execute("SELECT * FROM model")}

    def add_labels(self, labels: Iterable[Label]) -> list[str]:
        """Store labels, the latest of each source; return accepted, changed or same for each."""
        with self.transaction(write=True) as opened:
            return [_add_label(opened, label) for label in labels]

    def info(self) -> dict[str, Any]:
        """Return rows per table, bytes of file and log, and Unix time of the oldest answer."""
        with self.transaction() as opened:
            counts = {name: value(opened, f"SELECT count(*) FROM {name}") for name in TABLES}  # noqa: S608
            oldest = value(opened, "SELECT at FROM answer ORDER BY id LIMIT 1")
        return {"rows": counts, "bytes": self.size, "oldest": oldest}

    @property
    def size(self) -> int:
        """Return the bytes of the file and its write-ahead log."""
        log = self.path.with_name(f"{self.path.name}-wal")
        return sum(file.stat().st_size for file in (self.path, log) if file.exists())

    def erase(self, identity: bytes) -> int:
        """Erase an answer, its picture and labels; return the number of rows.

        No byte of them stays in the file or its log. Raises StoreError.
        """
        with self.transaction(write=True) as opened:
            png = value(opened, "SELECT png FROM picture WHERE id = ?", identity)
            erased = _delete(opened, "id = ?", identity)
        self._run("PRAGMA wal_checkpoint(TRUNCATE)")
        if any(map(self._has, [identity, *([png[-48:]] if png else ())])):
            # A split page can still contain a copy.
            self._run("VACUUM")
            self._run("PRAGMA wal_checkpoint(TRUNCATE)")
        return sum(erased)

    def _run(self, statement: str) -> None:
        try:
            with closing(self._connect()) as opened:
                if value(opened, statement):  # a checkpoint returns first whether it was blocked
                    raise StoreError("it is in use; try again")
        except sqlite3.Error as error:
            raise StoreError(error) from error

    def _has(self, trace: bytes) -> bool:
        with (
            self.path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return content.find(trace) >= 0

    def forget(self, days: float, max_bytes: int) -> None:
        """Delete rows older than `days`, then the oldest tenth while the store is too large."""
        with self.transaction(write=True) as opened:
            _delete(opened, "id < ?", id_from(time.time() - days * DAY_SECONDS))
            while _used(opened) > max_bytes:
                offset = value(opened, "SELECT count(*) / 10 FROM answer")
                last = value(opened, "SELECT id FROM answer ORDER BY id LIMIT 1 OFFSET ?", offset)
                if last is None:
                    break
                _delete(opened, "id <= ?", last)
        self._run("PRAGMA incremental_vacuum")

    def backup(self, out: Path) -> None:
        """Copy the store while it is in use; raises StoreError."""
        out.touch(mode=0o600)
        with self.transaction() as opened, closing(sqlite3.connect(out)) as copy:
            opened.backup(copy)

    def merge(self, other: "Store") -> None:
        """Merge another store into this one; the latest label of each source wins.

        Raises:
            StoreError: one store is locked for too long, or the disk is full.
        """
        with other.transaction() as opened:
            labels = [tuple(row) for row in opened.execute("SELECT * FROM feedback")]
        with self.transaction(write=True, other=other.path) as opened:
            for name in ("model", "answer", "picture"):
                opened.execute(f"INSERT OR IGNORE INTO {name} SELECT * FROM other.{name}")  # noqa: S608
        self.add_labels(labels)


def id_from(seconds: float) -> bytes:
    """Return the prefix of ids of this Unix time; earlier ids are less."""
    return max(0, int(seconds)).to_bytes(4)


def value(opened: sqlite3.Connection, statement: str, *parameters: Any) -> Any:
    """Return the first value of the first row; None if there is no row."""
    row = opened.execute(statement, parameters).fetchone()
    return None if row is None else row[0]


@lru_cache(64)
def _card(text: str) -> ModelCard:
    return ModelCard.from_json(text)


def _add_label(opened: sqlite3.Connection, label: Label) -> str:
    identity, source, at, names = label
    there = opened.execute(
        "SELECT at, labels FROM feedback WHERE id = ? AND source = ?", (identity, source)
    ).fetchone()
    if there is None or there["at"] <= at:
        opened.execute("INSERT OR REPLACE INTO feedback VALUES (?,?,?,?)", label)
    if there is None:
        return "accepted"
    return "changed" if there["at"] <= at and there["labels"] != names else "same"


def _used(opened: sqlite3.Connection) -> int:
    names = ("page_size", "page_count", "freelist_count")
    size, pages, free = (value(opened, f"PRAGMA {name}") for name in names)
    return int(size * (pages - free))


def _delete(opened: sqlite3.Connection, where: str, identity: bytes) -> list[int]:
    """Delete by ids; return the number of deleted rows per table."""
    statements = [f"DELETE FROM {name} WHERE {where}" for name in TABLES]  # noqa: S608
    return [opened.execute(statement, (identity,)).rowcount for statement in statements]
