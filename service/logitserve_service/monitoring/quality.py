"""Quality of the answers whose true label is known."""

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from math import exp, nan
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from logitserve.inference import conformal, heads
from logitserve.inference.card import CardPart, Head, ModelCard
from logitserve.inference.errors import CoverageError
from logitserve_service.monitoring.estimates import (
    EDGES,
    STRATA,
    Estimate,
    Labeled,
    Pairs,
    Strata,
    naive_share,
    weighted_share,
)
from logitserve_service.monitoring.label_free import MOST_ANSWERS, why_silent
from logitserve_service.monitoring.receipts import model_key, receipt_of
from logitserve_service.monitoring.store import DAY_SECONDS, Store, id_from
from logitserve_service.monitoring.store_writer import expected

SHARE: Final = "accuracy"
"""For sigmoid models, the share of answers with all labels right."""
TOLERANCE: Final = 0.01
"""Alarm if the whole interval is this far below the accuracy that the card states."""
LEAST_LABELS: Final = 100
COVERAGE: Final = 0.9
_LEAST: Final = float(np.finfo(np.float64).tiny)
"""Replaces a probability of 0: a loss of 708 nats."""


class Measure(CardPart):
    """A measure of the labeled answers."""

    n: int = Field(description="number of these answers")
    naive: Estimate = Field(description="estimate over these answers")
    weighted: Estimate | None = Field(
        description="estimate for all stored answers, weighted by strata of their probability"
    )


class Quality(CardPart):
    """The quality of the answers of a version."""

    model: str
    version: str
    answers: int = Field(description="number of stored answers")
    labels: int = Field(description="number of labeled answers")
    measures: dict[str, Measure] = Field(
        description="accuracy (of sigmoid models: all labels right), nll, ece, coverage, F1"
    )
    confusion: dict[str, dict[str, int]] = Field(
        description="true label → predicted label → number of answers"
    )
    new_classes: dict[str, int] = Field(
        description="true labels that the model does not have → number"
    )
    expected: float | None = Field(description="accuracy that the card states")
    estimated: float | None = Field(
        description="accuracy estimated from the probabilities, without labels"
    )
    not_estimated: str = Field(description="why there is no such estimate")
    alarm: bool = Field(
        description="whether accuracy is below the card's beyond chance and tolerance"
    )


def measure(store: Store, card: ModelCard, days: float) -> Quality:
    """Measure the quality of a version's answers of the last days; raises StoreError."""
    key = model_key(card.name, card.version)
    first = id_from(time.time() - days * DAY_SECONDS)
    is_single = card.head is not Head.SIGMOID
    with store.transaction() as opened:
        kept, strata, known = _strata(opened, key, first)
        rows = opened.execute(_LABELED, (first, key.to_bytes(4))).fetchall()
        one_in = 1 + kept // MOST_ANSWERS
        some = b"".join(row[0] for row in opened.execute(_LOGITS, (key, first, one_in)))
    # Only the store has the predicted labels of a sigmoid model.
    rows = [row for row in rows if is_single or row["logits"] is not None]
    labeled, new = labeled_of(card, rows)
    measures = _measures(labeled, strata) if rows else {}
    stated, share = expected(card), measures.get(SHARE)
    best = share and share.weighted and share.weighted.high
    reason = why_silent(card, known, _logits(card, some))
    return Quality(
        model=card.name,
        version=card.version,
        answers=kept,
        labels=len(rows),
        measures=measures,
        confusion=_confusion(labeled) if is_single else {},
        new_classes=new,
        expected=stated,
        estimated=None if reason else strata.stated.sum() / strata.answers.sum(),
        not_estimated=reason,
        alarm=len(rows) >= LEAST_LABELS and bool(best and stated and best < stated - TOLERANCE),
    )


_STRATA: Final = f"""
SELECT CASE WHEN known = 0 THEN {len(EDGES) + 1}
    {" ".join(f"WHEN probability < {edge} THEN {i}" for i, edge in enumerate(EDGES))}
    ELSE {len(EDGES)} END AS stratum,
    count(*) AS kept, sum(1 / chance) AS count, sum(probability / chance) AS stated
FROM answer WHERE model = ? AND id >= ? GROUP BY 1"""  # noqa: S608 - of constants
_LABELED: Final = """
SELECT f.id, f.labels, max(f.at), a.probability, a.known, a.logits
FROM feedback f LEFT JOIN answer a ON a.id = f.id
WHERE f.id >= ? AND substr(f.id, 13, 4) = ? GROUP BY f.id"""

_LOGITS: Final = "SELECT logits FROM answer WHERE model = ? AND id >= ? AND random() % ? = 0"


def _logits(card: ModelCard, packed: bytes) -> npt.NDArray[np.float64]:
    """Decode the stored calibrated logits, `[n, k]`."""
    width = 1 if card.head is Head.BINARY else len(card.labels)
    return np.frombuffer(packed, "<f2").astype(np.float64).reshape(-1, width)


def _strata(opened: sqlite3.Connection, key: int, first: bytes) -> tuple[int, Strata, float]:
    """Return the number of answers, the strata, and the share that is known."""
    strata = Strata(np.zeros(STRATA), np.zeros(STRATA))
    kept = 0
    for row in opened.execute(_STRATA, (key, first)):
        kept += row["kept"]
        strata.answers[row["stratum"]] = row["count"]
        strata.stated[row["stratum"]] = row["stated"]
    return kept, strata, float(1 - strata.answers[-1] / strata.answers.sum()) if kept else 0.0


class _Answer(NamedTuple):
    """A row of `Labeled`."""

    said: list[int]
    held: list[int]
    right: bool
    covered: float
    loss: float
    stratum: int
    stated: list[float]
    true: list[float]


def labeled_of(card: ModelCard, rows: Sequence[sqlite3.Row]) -> tuple[Labeled, dict[str, int]]:
    """Match labels with their answers; also count labels that the model does not have.

    For an answer that is not in the store, the content of its id is used.
    """
    place = {label: i for i, label in enumerate(card.labels)}
    names = [json.loads(row["labels"]) for row in rows]
    new = Counter(name for of in names for name in of if name not in place)
    answers = [
        _answer(card, row, [place.get(name, -1) for name in of])
        for row, of in zip(rows, names, strict=True)
    ]
    labeled = Labeled(
        list(card.labels),
        _pairs([of.said for of in answers]),
        _pairs([of.held for of in answers]),
        _pairs([sorted({*of.said} & {*of.held}) for of in answers]),
        np.array([of.right for of in answers], np.bool_),
        np.array([of.covered for of in answers]),
        np.array([of.loss for of in answers]),
        np.array([of.stratum for of in answers], np.int64),
        (
            np.repeat(np.arange(len(answers)), [len(of.stated) for of in answers]),
            np.array([p for of in answers for p in of.stated]),
            np.array([true for of in answers for true in of.true]),
        ),
    )
    return labeled, dict(new)


def _pairs(labels: Sequence[Sequence[int]]) -> Pairs:
    rows = np.repeat(np.arange(len(labels)), [len(of) for of in labels])
    return Pairs(rows, np.array([label for of in labels for label in of], np.int64))


def _answer(card: ModelCard, row: sqlite3.Row, truth: list[int]) -> _Answer:
    """Evaluate one answer; a label that the model does not have is -1."""
    receipt, held = receipt_of(row["id"]), [label for label in truth if label >= 0]
    p = np.full(len(card.labels), nan)
    top = 1 / (1 + exp(-receipt.log_odds))
    if row["logits"] is not None:
        p = heads.probabilities(card.head, _logits(card, row["logits"]))[0]
        top = float(p.max())
    stratum = STRATA - 1 if row["known"] == 0 else int(np.searchsorted(EDGES, top, side="right"))
    covered = loss = nan
    if card.head is Head.SIGMOID:
        said = np.flatnonzero(p >= heads.thresholds(card)).tolist()
        holds = np.isin(np.arange(len(p)), held)
        loss = float(-np.log(np.maximum(np.where(holds, p, 1 - p), _LEAST)).mean())
        right = said == sorted(truth)
        return _Answer(said, held, right, covered, loss, stratum, p.tolist(), holds.tolist())
    said = [receipt.argmax]
    if held:
        loss = float(-np.log(np.maximum(p[held[0]], _LEAST)))
    with suppress(CoverageError):  # the model has no prediction sets
        thresholds = conformal.label_thresholds(card, COVERAGE)
        if row["logits"] is not None:
            inside = conformal.scores(p[None])[0] <= thresholds
            covered = float(inside[held].any())
    right = said == truth
    return _Answer(said, held, right, covered, loss, stratum, [top], [float(right)])


def _measures(labeled: Labeled, strata: Strata) -> dict[str, Measure]:
    has = np.isfinite(labeled.covered)
    shares = {SHARE: (labeled.right, labeled.stratum)}
    if has.any():
        shares[f"coverage {COVERAGE:g}"] = labeled.covered[has] > 0, labeled.stratum[has]
    is_weighted = strata.answers.sum() > 0
    found = {}
    for name, (right, stratum) in shares.items():
        weighted = weighted_share(right, stratum, strata) if is_weighted else None
        found[name] = Measure(n=len(right), naive=naive_share(right), weighted=weighted)
    n = len(labeled.right)
    of_stratum = np.bincount(labeled.stratum, minlength=STRATA)
    weights = (strata.answers / np.maximum(of_stratum, 1))[labeled.stratum]
    over_all = labeled.estimates(weights) if weights.any() else {}
    for name, estimate in labeled.estimates(np.ones(n)).items():
        found[name] = Measure(n=n, naive=estimate, weighted=over_all.get(name))
    return found


def _confusion(labeled: Labeled) -> dict[str, dict[str, int]]:
    """Count true → predicted label, without labels that the model does not have."""
    truth, said = labeled.held.labels, labeled.said.labels[labeled.held.rows]
    counts: dict[str, dict[str, int]] = {}
    for (true, answer), count in sorted(Counter(zip(truth, said, strict=True)).items()):
        counts.setdefault(labeled.labels[true], {})[labeled.labels[answer]] = count
    return counts
