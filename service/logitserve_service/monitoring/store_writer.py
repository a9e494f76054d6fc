"""Write answers to the store in a thread, without delaying responses."""

import logging
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from logitserve.inference import heads
from logitserve.inference.card import Head, ModelCard
from logitserve.inference.images import encode_png
from logitserve.inference.predictor import Predictions
from logitserve_service.monitoring.store import Store

MAX_ROWS: Final = 4096
"""Maximum queued rows; further rows are dropped."""
MAX_BYTES: Final = 16 * 2**20
ROWS_A_SECOND: Final = 200
"""Rate above which answers are sampled."""
WRITE_SECONDS: Final = 0.5
UPKEEP_SECONDS: Final = 10.0
SURE: Final = 0.9
"""A prediction with a lower probability, or of an image that is not known, is unsure."""
SAMPLE: Final = 0.01
"""Probability of storing any picture, with `sample` and `unsure`."""

KEPT, OVERFLOW, *_ = OUTCOMES = ("kept", "overflow", "locked", "disk", "failed")
"""Outcomes of an answer; all but the first are reasons why it is dropped."""
_REASONS: Final = {"BUSY": "locked", "FULL": "disk", "IOERR": "disk"}
"""SQLite's error name, such as SQLITE_IOERR_WRITE (its second word) → reason."""

logger = logging.getLogger("logitserve.store")


Images = npt.NDArray[np.uint8]


class Answers(NamedTuple):
    """Rows of a batch to be stored."""

    card: ModelCard
    model: int
    """The `model_key` of name and version."""
    ids: Sequence[bytes]
    chance: float
    """The probability with which they were sampled."""
    predictions: Predictions


class StoreWriter:
    """The queue and the writer thread of one worker."""

    def __init__(
        self,
        store: Store,
        count: Callable[[str, int], None],
        *,
        pictures: str = "none",
        upkeep: Callable[[], object] | None = None,
    ) -> None:
        """Set up the queue.

        Args:
            store: the store to write to.
            count: called with an outcome and its number of rows.
            pictures: which pictures are stored: none, unsure, sample or all.
            upkeep: called by the thread every `UPKEEP_SECONDS`.
        """
        self._store, self._count, self._pictures, self._upkeep = store, count, pictures, upkeep
        self._kept_up = -UPKEEP_SECONDS
        self._lock = threading.Lock()
        self._waiting: list[tuple[Answers, dict[bytes, Images]]] = []
        self._models: dict[int, ModelCard] = {}
        self._rows = self._bytes = 0
        self._second = self._seen = 0
        self._chance = 1.0
        self._end = threading.Event()

    def describe(self, key: int, card: ModelCard) -> None:
        """Store the card of a model, which describes its rows."""
        self._models[key] = card

    def chance(self, second: int, count: int) -> float:
        """Return the sampling probability: 1, unless the last second had too many answers."""
        if second != self._second:
            busy = second == self._second + 1 and self._seen > ROWS_A_SECOND
            # the precision of an id
            self._chance = float(np.float16(ROWS_A_SECOND / self._seen)) if busy else 1.0
            self._second, self._seen = second, 0
        self._seen += count
        return self._chance

    def add(self, answers: Answers, images: Images, rows: Sequence[int]) -> None:
        """Queue answers, or drop them if the queue is full. Called from any thread.

        Args:
            answers: the answers to store.
            images: the network's input for the whole batch, `[batch, height, width, channels]`.
            rows: rows of the answers in the batch.
        """
        # Copies, because a view would hold the whole request in memory.
        pictures = {answers.ids[i]: images[rows[i]].copy() for i in self._chosen(answers)}
        size = answers.predictions.logits.nbytes + sum(one.nbytes for one in pictures.values())
        count = len(answers.ids)
        with self._lock:
            if self._rows + count > MAX_ROWS or self._bytes + size > MAX_BYTES:
                self._count(OVERFLOW, count)
                return
            self._rows += count
            self._bytes += size
            self._waiting.append((answers, pictures))

    def _chosen(self, answers: Answers) -> Iterable[int]:
        """Yield the indexes of the answers whose pictures are stored."""
        if self._pictures == "none":
            return
        certain = np.full(len(answers.ids), self._pictures == "all")
        if self._pictures == "unsure":
            certain = stated(answers.predictions) < SURE
            if answers.predictions.known is not None:
                certain |= ~answers.predictions.known
        for i, is_certain in enumerate(certain.tolist()):
            if is_certain or random.random() < SAMPLE:  # noqa: S311
                yield i

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write the queue every `WRITE_SECONDS`, and at the end."""
        self.write()  # so that labels of an answer find its model in the store
        thread = threading.Thread(target=self._run, name="store", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join(WRITE_SECONDS)  # a locked file must not delay the exit

    def _run(self) -> None:
        while not self._end.wait(WRITE_SECONDS):
            self.write()
            if self._upkeep is not None and time.monotonic() > self._kept_up + UPKEEP_SECONDS:
                self._kept_up = time.monotonic()
                self._outcome(self._upkeep)
        self.write()

    def write(self) -> None:
        """Write the queue in one transaction; on failure, drop it."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            rows, self._rows, self._bytes = self._rows, 0, 0
        if waiting or self._models:
            self._count(self._outcome(lambda: self._insert(waiting)), rows)

    @staticmethod
    def _outcome(act: Callable[[], object]) -> str:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - the thread goes on
            logger.warning("the store cannot be written: %s", error)
            name = getattr(error.__cause__, "sqlite_errorname", "__")
            return _REASONS.get(name.split("_")[1], "failed")
        return KEPT

    def _insert(self, waiting: Sequence[tuple[Answers, dict[bytes, Images]]]) -> None:
        models = self._models.copy()
        pngs = []
        for _, pictures in waiting:
            for of, image in pictures.items():
                pngs.append((of, encode_png(image[:, :, 0] if image.shape[2] == 1 else image)))
                time.sleep(0)  # releases Python's global lock, for which requests wait
        with self._store.transaction(write=True) as opened:
            opened.executemany(
                "INSERT OR REPLACE INTO model VALUES (?,?)",
                [
                    (key, card.model_copy(update={"goldens": card.goldens[:1]}).to_json())
                    for key, card in models.items()
                ],
            )
            for answers, _ in waiting:
                opened.executemany(
                    "INSERT OR IGNORE INTO answer VALUES (?,?,?,?,?,?,?,?)", _rows(answers)
                )
                time.sleep(0)
            opened.executemany("INSERT OR IGNORE INTO picture VALUES (?,?)", pngs)
        for key in models:
            self._models.pop(key)


def expected(card: ModelCard) -> float | None:
    """Return the accuracy that the card states; for sigmoid, of all labels together."""
    return card.metrics.get("exact_match" if card.head is Head.SIGMOID else "accuracy")


def _rows(answers: Answers) -> Iterable[tuple[Any, ...]]:
    found, count = answers.predictions, len(answers.ids)
    logits = packed(heads.calibrated(found.logits, answers.card), answers.card.head)
    return zip(
        answers.ids,
        [int.from_bytes(of[:4]) for of in answers.ids],
        [answers.model] * count,
        found.argmax.tolist(),
        stated(found).tolist(),
        [None] * count if found.known is None else found.known.tolist(),
        [answers.chance] * count,
        map(bytes, logits),
        strict=True,
    )


def stated(predictions: Predictions) -> npt.NDArray[np.float64]:
    """Return the probability of each argmax, `[n]`."""
    rows = np.arange(len(predictions))
    return np.asarray(predictions.probabilities[rows, predictions.argmax])


def packed(logits: npt.NDArray[np.float64], head: Head) -> npt.NDArray[np.float16]:
    """Encode calibrated logits for the store, `[n, k]`; for softmax, minus the highest of each row.

    Probabilities would lose precision near 1: 0.99994 is 1 in float16.
    """
    if head is Head.SOFTMAX:
        logits = logits - logits.max(axis=1, keepdims=True)
    return logits.clip(-60_000, 60_000).astype("<f2")
