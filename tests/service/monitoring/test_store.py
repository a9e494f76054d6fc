import gc
import resource
import signal
import sqlite3
import subprocess
import sys
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from logitserve.inference.card import Head, ModelCard
from logitserve.inference.predictor import Predictions, Predictor
from logitserve_service.errors import StartError, StoreError
from logitserve_service.monitoring import store as stores
from logitserve_service.monitoring import store_writer as writers
from logitserve_service.monitoring.receipts import Receipts, bytes_of
from logitserve_service.monitoring.store import Store, id_from
from logitserve_service.monitoring.store_writer import Answers, StoreWriter, packed
from tests.tiny_models import random_picture

DAY = 86_400


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store.db")


@pytest.fixture
def counts() -> Counter[str]:
    return Counter()


MakeKeeper = Callable[..., StoreWriter]


@pytest.fixture
def make_writer(store: Store, counts: Counter[str]) -> MakeKeeper:
    def count(outcome: str, rows: int) -> None:
        counts[outcome] += rows

    return lambda **options: StoreWriter(store, count, **options)


def answered(
    store_writer: StoreWriter, predictor: Predictor, count: int, start: int = 0
) -> list[bytes]:
    """Predict random pictures; the ids."""
    images = np.stack([random_picture(start + row) for row in range(count)])
    issue = Receipts([b"k" * 32], store_writer).of(predictor.card)
    found = [bytes_of(text) for text in issue(predictor.predict(images), images, ())]
    return [raw for raw in found if raw is not None]


def rows(store: Store, table: str = "answer") -> list[sqlite3.Row]:
    with store.transaction() as opened:
        return opened.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608


def content(store: Store) -> bytes:
    """All bytes of file and log."""
    return b"".join(path.read_bytes() for path in sorted(store.path.parent.glob("store.db*")))


def test_an_answer_is_kept_as_it_was(
    make_writer: MakeKeeper, store: Store, predictor: Predictor, counts: Counter[str]
) -> None:
    store_writer = make_writer()
    ids = answered(store_writer, predictor, 64)
    store_writer.write()
    assert counts == {"kept": 64}
    images = np.stack([random_picture(row) for row in range(64)])
    expected = predictor.predict(images)
    found = {row["id"]: row for row in rows(store)}
    for row, raw in enumerate(ids):
        kept = found[raw]
        assert kept["argmax"] == expected.argmax[row]
        assert kept["probability"] == expected.probabilities[row].max()
        assert kept["chance"] == 1
        powers = np.exp(np.frombuffer(kept["logits"], "<f2").astype(np.float64))
        np.testing.assert_allclose(powers / powers.sum(), expected.probabilities[row], atol=2e-3)
    assert store.path.stat().st_mode & 0o777 == 0o600
    (card,) = store.models().values()
    assert card == predictor.card.model_copy(update={"goldens": predictor.card.goldens[:1]})


def test_what_float16_probabilities_lose_is_kept() -> None:
    logits = packed(np.array([[20.0, 10.28, 0.0]]), Head.SOFTMAX).astype(np.float64)
    lost = np.log(np.exp(logits).sum()) - logits[0, 0]
    assert lost == pytest.approx(np.log1p(np.exp(-9.72) + np.exp(-20)), rel=0.01)
    assert -np.log(np.float16(1 - lost)) == 0, "as a probability it would be 1"


@pytest.mark.parametrize(("mode", "expected"), [("none", 0), ("all", 64), ("unsure", None)])
def test_pictures_are_kept_without_what_their_files_said(
    make_writer: MakeKeeper, store: Store, predictor: Predictor, mode: str, expected: int | None
) -> None:
    store_writer = make_writer(pictures=mode)
    ids = answered(store_writer, predictor, 64)
    store_writer.write()
    found = {row["id"]: row["png"] for row in rows(store, "picture")}
    if expected is None:
        unsure = {row["id"] for row in rows(store) if row["probability"] < writers.SURE}
        assert unsure
        assert unsure <= found.keys()
    else:
        assert len(found) == expected
    for raw, file in found.items():
        np.testing.assert_array_equal(
            predictor.decode(file), random_picture(ids.index(raw)), strict=True
        )


def test_too_many_are_dropped_and_counted_to_the_row(
    make_writer: MakeKeeper, store: Store, predictor: Predictor, counts: Counter[str]
) -> None:
    store_writer = make_writer()
    issued = 0
    while issued < writers.MAX_ROWS + 640:
        store_writer._seen = 0  # else it would take a sample
        issued += len(answered(store_writer, predictor, 64))
    store_writer.write()
    assert counts["kept"] + counts["overflow"] == issued
    assert counts["kept"] == writers.MAX_ROWS == len(rows(store))


def test_above_the_rate_answers_are_kept_by_a_chance_that_is_noted(
    make_writer: MakeKeeper, store: Store, predictor: Predictor
) -> None:
    store_writer = make_writer()
    now = int(time.time())
    assert store_writer.chance(now, 1000) == 1
    assert store_writer.chance(now + 1, 1) == pytest.approx(0.2, rel=1e-3)
    assert store_writer.chance(now + 2, 1) == 1, "the second before was quiet"
    store_writer._second, store_writer._chance = int(time.time()), 0.25
    store_writer._seen = 0
    images = np.stack([random_picture(row) for row in range(64)])
    issue = Receipts([b"k" * 32], store_writer).of(predictor.card)
    kept = 0
    for _ in range(20):
        store_writer._second, store_writer._chance = int(time.time()), 0.25
        issue(predictor.predict(images), images, range(32))
    store_writer.write()
    kept = len(rows(store))
    assert 60 < kept < 270, "a quarter of the 640 that are not private"


def test_a_locked_file_makes_nobody_wait(
    make_writer: MakeKeeper,
    store: Store,
    predictor: Predictor,
    counts: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stores, "BUSY_SECONDS", 0.05)
    store_writer = make_writer()
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answered(store_writer, predictor, 3)
        store_writer.write()
        assert counts == {"locked": 3}
        with pytest.raises(StoreError, match="locked"):
            store.add_labels([(b"x" * 33, "", 1.0, '["7"]')])
    answered(store_writer, predictor, 2)
    store_writer.write()
    assert counts == {"locked": 3, "kept": 2}


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_drops_and_counts(
    make_writer: MakeKeeper,
    store: Store,
    predictor: Predictor,
    counts: Counter[str],
    full_disk: Callable[[int], None],
) -> None:
    store_writer = make_writer()
    answered(store_writer, predictor, 1)
    store_writer.write()
    full_disk(store.size)
    for _ in range(4):
        answered(store_writer, predictor, 64)
        store_writer.write()
    full_disk(2**30)
    answered(store_writer, predictor, 1)
    store_writer.write()
    assert counts["disk"] >= 64
    assert counts["kept"] + counts["disk"] == 2 + 4 * 64
    assert len(rows(store)) == counts["kept"]


def test_a_label_may_come_late_twice_and_out_of_order(store: Store) -> None:
    a, b = b"a" * 33, b"b" * 33
    assert store.add_labels([(a, "", 5, '["7"]'), (b, "", 5, '["1"]')]) == ["accepted"] * 2
    assert store.add_labels([(a, "", 5, '["7"]')]) == ["same"]
    assert store.add_labels([(a, "", 9, '["7"]')]) == ["same"]
    assert store.add_labels([(a, "", 7, '["8"]')]) == ["same"], "one of 9 is there"
    assert store.add_labels([(a, "", 10, '["8"]'), (a, "Ada", 1, '["9"]')]) == [
        "changed",
        "accepted",
    ]
    found = {(row["id"], row["source"]): row["labels"] for row in rows(store, "feedback")}
    assert found == {(a, ""): '["8"]', (a, "Ada"): '["9"]', (b, ""): '["1"]'}


def test_nothing_is_left_of_what_is_erased(
    make_writer: MakeKeeper, store: Store, predictor: Predictor
) -> None:
    ids: list[bytes] = []
    for start in range(0, 640, 64):  # of several processes, so that pages are divided
        store_writer = make_writer(pictures="all")
        ids += answered(store_writer, predictor, 64, start)
        store_writer.write()
    store.add_labels((of, "", 1.0, '["7"]') for of in ids)
    pngs = {row["id"]: row["png"] for row in rows(store, "picture")}
    for number in range(0, 640, 71):
        raw = ids[number]
        assert raw in content(store)
        assert store.erase(raw) == 3
        left = content(store)
        assert raw not in left
        for at in range(40, len(pngs[raw]) - 16, 16):  # a random picture: no other has these bytes
            assert pngs[raw][at : at + 16] not in left
    assert store.erase(ids[0]) == 0
    assert len(rows(store)) == 640 - len(range(0, 640, 71))


def at(seconds: float, number: int) -> bytes:
    return id_from(seconds) + number.to_bytes(29)


def fill(store: Store, ids: list[bytes], size: int = 10) -> None:
    with store.transaction(write=True) as opened:
        for of in ids:
            opened.execute("INSERT INTO answer(id) VALUES (?)", (of,))
            opened.execute("INSERT INTO picture VALUES (?, zeroblob(?))", (of, size))
            opened.execute("INSERT INTO feedback VALUES (?, '', 1, '[]')", (of,))


def test_what_is_old_is_forgotten_and_the_oldest_first(store: Store) -> None:
    now = time.time()
    fill(store, [at(now - 40 * DAY, n) for n in range(50)])
    recent = [at(now - DAY + n, n) for n in range(400)]
    fill(store, recent, 4000)
    store.forget(30, 2**30)
    for table in stores.TABLES:
        assert [row["id"] for row in rows(store, table)] == recent
    store.forget(30, 500_000)
    left = [row["id"] for row in rows(store)]
    assert 50 < len(left) < 130
    assert left == recent[-len(left) :]
    assert [row["id"] for row in rows(store, "picture")] == left


def test_copies_and_merges(store: Store, tmp_path: Path) -> None:
    fill(store, [at(5, 1), at(5, 2)])
    store.backup(tmp_path / "copy.db")
    other = Store(tmp_path / "copy.db")
    assert other.path.stat().st_mode & 0o777 == 0o600
    fill(other, [at(5, 3)])
    other.add_labels([(at(5, 1), "", 2, '["new"]'), (at(5, 2), "", 0.5, '["old"]')])
    store.merge(other)
    store.merge(other)
    assert store.info()["rows"] == {"answer": 3, "picture": 3, "feedback": 3}
    assert [row["labels"] for row in rows(store, "feedback")] == ['["new"]', "[]", "[]"]


def test_a_merge_into_a_locked_store_is_an_error_of_its_own(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, [at(5, 1)])
    store.backup(tmp_path / "copy.db")
    monkeypatch.setattr(stores, "BUSY_SECONDS", 0.1)
    with store.transaction(write=True), pytest.raises(StoreError, match="locked"):
        store.merge(Store(tmp_path / "copy.db"))
    assert store.info()["rows"]["answer"] == 1


def test_another_schema_is_refused(store: Store) -> None:
    with closing(sqlite3.connect(store.path)) as other:
        other.execute("PRAGMA user_version = 7")
    with pytest.raises(StartError, match=r"schema is 7, not 1; move it away, or name another"):
        Store(store.path)


@pytest.mark.parametrize("what", ["other", "text", "folder"])
def test_what_is_no_store_is_refused_and_left_as_it_is(tmp_path: Path, what: str) -> None:
    path = tmp_path / "file"
    if what == "other":
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE mine(a)")
    elif what == "text":
        path.write_text("no database at all, but a text of more than a few words\n" * 50)
    else:
        path.mkdir()
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(StartError, match="another with --store"):
        Store(path)
    assert (path.read_bytes() if path.is_file() else b"") == before


WRITER = """
import sys, time
from pathlib import Path
from logitserve_service.monitoring.store import Store
store = Store(Path(sys.argv[1]))
number = 0
while True:
    with store.transaction(write=True) as opened:
        for _ in range(100):
            number += 1
            opened.execute("INSERT INTO answer(id) VALUES (?)", (number.to_bytes(33),))
    print(number, flush=True)
"""


def test_killed_while_it_writes_the_store_is_whole(store: Store) -> None:
    for _ in range(3):
        with store.transaction(write=True) as opened:
            opened.execute("DELETE FROM answer")
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store.path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        committed = [int(writer.stdout.readline()) for _ in range(20)][-1]
        writer.send_signal(signal.SIGKILL)
        written = committed + sum(1 for _ in writer.stdout) * 100
        writer.wait()
        writer.stdout.close()
        with store.transaction() as opened:
            assert stores.value(opened, "PRAGMA integrity_check") == "ok"
        assert len(rows(store)) % 100 == 0, "whole transactions"
        assert written <= len(rows(store)) <= written + 100


def test_pictures_are_bounded_by_their_bytes(
    make_writer: MakeKeeper, predictor: Predictor, counts: Counter[str]
) -> None:
    store_writer = make_writer(pictures="all")
    large = np.zeros((1, 1500, 1500, 3), np.uint8)  # 6.75 MB
    predictions: Predictions = predictor.predict(random_picture(0)[None])
    card: ModelCard = predictor.card
    for number in range(4):
        store_writer.add(Answers(card, 1, [number.to_bytes(33)], 1.0, predictions), large, [0])
    store_writer.write()
    assert counts == {"kept": 2, "overflow": 2}


def test_what_waits_holds_nothing_of_its_request(
    make_writer: MakeKeeper, predictor: Predictor
) -> None:
    for pictures in ("none", "all"):
        store_writer = make_writer(pictures=pictures)
        images = np.stack([random_picture(row) for row in range(3)])
        alive = weakref.ref(images)
        Receipts([b"k" * 32], store_writer).of(predictor.card)(
            predictor.predict(images), images, ()
        )
        del images
        gc.collect()
        assert alive() is None, pictures
        assert store_writer._rows == 3
