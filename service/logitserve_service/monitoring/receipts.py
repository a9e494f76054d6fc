"""Receipts: signed ids of predictions, which any replica with the same key checks without a store.

An id is 33 bytes, 44 characters of base64 for URLs: what the prediction said, and a keyed BLAKE2s
over it. It says no more than the answer did.
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
from logitserve_service.monitoring.keeper import Answers, Images, Keeper

ID_LENGTH: Final = 44
"""Characters."""
MAC_BYTES: Final = 11
FORMAT: Final = struct.Struct(">I4sIIHee")
LEAST: Final = 1e-16
"""Distance of a probability to 0 and 1, so that its log-odds fit float16 with digits to spare."""
MOST_CLASSES: Final = 2**16 - 1

_FOR_URLS: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URLS: Final = bytes.maketrans(b"-_+/", b"+/__")  # what is not for URLs becomes invalid


class Receipt(NamedTuple):
    """What an id says."""

    at: int
    """Unix time in seconds."""
    process: bytes
    number: int
    """Of the predictions of that process."""
    model: int
    """`model_key` of name and version."""
    argmax: int
    log_odds: float
    """Of its calibrated probability."""
    chance: float
    """Of the answer to be kept in the store; negative where it was not."""


class Receipts:
    """Signs ids, and checks them. Belongs to one process."""

    def __init__(self, secrets: Sequence[bytes], keeper: Keeper | None = None) -> None:
        """The first secret signs; ids of all are valid, so that they can be rotated."""
        # A copy of a hash that has read its key costs less than one that reads it.
        self._hashes = [blake2s(digest_size=MAC_BYTES, key=secret) for secret in secrets]
        self._process = os.urandom(4)
        self._numbers = itertools.count()
        self._keeper = keeper

    def of(self, card: ModelCard) -> "partial[list[str]]":
        """The function that gives ids to the predictions of a model."""
        key = model_key(card.name, card.version)
        if self._keeper is not None:
            self._keeper.describe(key, card)
        return partial(self._issue, card, key)

    def _issue(
        self,
        card: ModelCard,
        model: int,
        predictions: Predictions,
        images: Images,
        private: Collection[int],
    ) -> list[str]:
        """An id for each row of a batch; those that are not `private` may be kept."""
        keeper = self._keeper
        now = int(time.time())
        chance = 0.0 if keeper is None else keeper.chance(now, len(predictions))
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
        if keeper is not None and rows:
            chosen: Any = rows
            part = predictions if len(rows) == len(ids) else predictions[chosen]
            keeper.add(Answers(card, model, raw, chance, part), images, rows)
        return ids

    def read(self, text: str) -> bytes | None:
        """The bytes of an id; None unless it was signed with one of the secrets."""
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
    """What stands for a model in an id."""
    return int.from_bytes(blake2s(f"{name}/{version}".encode(), digest_size=4).digest())


def receipt_of(raw: bytes) -> Receipt:
    """What an id says."""
    return Receipt(*FORMAT.unpack_from(raw))


def text_of(raw: bytes) -> str:
    """An id as it is sent."""
    return b2a_base64(raw, newline=False).translate(_FOR_URLS).decode()


def bytes_of(text: str) -> bytes | None:
    """The bytes of what has the form of an id; whether it was signed stays open."""
    if len(text) != ID_LENGTH:
        return None
    try:
        return a2b_base64(text.encode("ascii").translate(_FROM_URLS), strict_mode=True)
    except ValueError:
        return None
