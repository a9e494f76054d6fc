"""Receipts: signed prediction ids, which any replica with the same key verifies without a store.

An id has 33 bytes, or 44 characters of URL-safe base64: a summary of the prediction, and its keyed
BLAKE2s hash. It contains no more information than the response.
"""

import itertools
import os
import random
import struct
import time
from binascii import a2b_base64, b2a_base64
from collections.abc import Collection, Sequence
from functools import partial
from hashlib import blake2s
from hmac import compare_digest
from math import log
from typing import Any, Final, NamedTuple

from logitserve.inference.card import ModelCard
from logitserve.inference.predictor import Predictions
from logitserve_service.monitoring.store_writer import Answers, Images, StoreWriter

ID_LENGTH: Final = 44
"""Length of an id in characters."""
MAC_BYTES: Final = 11
FORMAT: Final = struct.Struct(">I4sIIHee")
LEAST: Final = 1e-16
"""Minimum distance of a probability to 0 and 1, so that its log-odds fit into float16."""
MOST_CLASSES: Final = 2**16 - 1

_FOR_URLS: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URLS: Final = bytes.maketrans(b"-_+/", b"+/__")  # makes standard base64 invalid


class Receipt(NamedTuple):
    """The content of an id."""

    at: int
    """Unix time in seconds."""
    process: bytes
    number: int
    """Sequence number of the prediction in its process."""
    model: int
    """`model_key` of name and version."""
    argmax: int
    log_odds: float
    """Log-odds of the calibrated probability."""
    chance: float
    """Sampling probability of the answer; negative if it was not stored."""


class Receipts:
    """Signs and verifies ids. Belongs to one process."""

    def __init__(self, secrets: Sequence[bytes], store_writer: StoreWriter | None = None) -> None:
        """Set the secrets: the first signs, all are accepted, so that they can be rotated."""
        # Copying a keyed hash is cheaper than creating one.
        self._hashes = [blake2s(digest_size=MAC_BYTES, key=secret) for secret in secrets]
        self._process = os.urandom(4)
        self._numbers = itertools.count()
        self._store_writer = store_writer

    def of(self, card: ModelCard) -> "partial[list[str]]":
        """Return a function that issues ids for the predictions of a model."""
        key = model_key(card.name, card.version)
        if self._store_writer is not None:
            self._store_writer.describe(key, card)
        return partial(self._issue, card, key)

    def _issue(
        self,
        card: ModelCard,
        model: int,
        predictions: Predictions,
        images: Images,
        private: Collection[int],
    ) -> list[str]:
        """Issue an id for each row of a batch; rows in `private` are not stored."""
        store_writer = self._store_writer
        now = int(time.time())
        chance = 0.0 if store_writer is None else store_writer.chance(now, len(predictions))
        process, numbers, copy = self._process, self._numbers, self._hashes[0].copy
        probability = predictions.probabilities.item
        ids, raw, rows = [], [], []
        for row, argmax in enumerate(predictions.argmax.tolist()):
            p = probability(row, argmax)
            odds = p / (1 - p) if LEAST < p < 1 - LEAST else LEAST if p < LEAST else 1 / LEAST
            drawn = chance == 1 or (chance > 0 and random.random() < chance)  # noqa: S311
            is_kept = drawn and row not in private
            body = FORMAT.pack(
                now, process, next(numbers) & 0xFFFFFFFF, model,
                min(MOST_CLASSES, argmax),
                log(odds), chance if is_kept else -chance,
            )  # fmt: skip
            signed = copy()
            signed.update(body)
            body += signed.digest()
            if is_kept:
                rows.append(row)
                raw.append(body)
            ids.append(b2a_base64(body, newline=False).translate(_FOR_URLS).decode())
        if store_writer is not None and rows:
            chosen: Any = rows
            part = predictions if len(rows) == len(ids) else predictions[chosen]
            store_writer.add(Answers(card, model, raw, chance, part), images, rows)
        return ids

    def read(self, text: str) -> bytes | None:
        """Verify an id; return its bytes, or None unless one of the secrets signed it."""
        raw = bytes_of(text)
        if raw is None:
            return None
        body, mac = raw[: FORMAT.size], raw[FORMAT.size :]
        found = False
        for signer in self._hashes:
            signed = signer.copy()
            signed.update(body)
            found |= compare_digest(signed.digest(), mac)
        return raw if found else None


def model_key(name: str, version: str) -> int:
    """Return the number that identifies a model in a prediction id."""
    return int.from_bytes(blake2s(f"{name}/{version}".encode(), digest_size=4).digest())


def receipt_of(raw: bytes) -> Receipt:
    """Unpack the content of an id."""
    return Receipt(*FORMAT.unpack_from(raw))


def text_of(raw: bytes) -> str:
    """Encode an id as text."""
    return b2a_base64(raw, newline=False).translate(_FOR_URLS).decode()


def bytes_of(text: str) -> bytes | None:
    """Decode a text with the form of an id, without verifying it; None for another text."""
    if len(text) != ID_LENGTH:
        return None
    try:
        return a2b_base64(text.encode("ascii").translate(_FROM_URLS), strict_mode=True)
    except ValueError:
        return None
