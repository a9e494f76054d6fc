"""How good the answers are of which the true label is known."""

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import exp
from typing import Final, NamedTuple

import numpy as np

from logitserve.inference import conformal, heads
from logitserve.inference.card import Head, ModelCard
from logitserve.inference.errors import CoverageError
from logitserve_service.monitoring.estimates import (
    EDGES,
    STRATA,
    Estimate,
    Labeled,
    Strata,
    naive_share,
    weighted_share,
)
from logitserve_service.monitoring.keeper import expected
from logitserve_service.monitoring.receipts import model_key, receipt_of
from logitserve_service.monitoring.store import DAY_SECONDS, Store, id_from

SHARE: Final = "accuracy"
"""Of sigmoid models the share of answers of which all labels are right."""
TOLERANCE: Final = 0.01
"""The alarm is on where the interval is wholly so far below what the card states."""
LEAST_LABELS: Final = 100
KNOWN_SHARE: Final = 0.95
"""Below it there is no estimate without labels: of what is not known, probabilities say nothing."""
COVERAGE: Final = 0.9


class Measure(NamedTuple):
    """A figure over what is labeled, and over all answers; None where it cannot be told."""

    n: int
    naive: Estimate
    weighted: Estimate | None


@dataclass(frozen=True, slots=True)
class Quality:
    """Of the answers of one version of a model, since some time."""

    model: str
    version: str
    answers: int
    """That were kept."""
    labels: int
    """Answers with a label."""
    measures: dict[str, Measure]
    confusion: dict[str, dict[str, int]]
    """True label → answered label → answers; of sigmoid models empty."""
    new_classes: dict[str, int]
    """True labels that no class has."""
    expected: float | None
    """The share of right answers that the card states."""
    estimated: float | None
    """The share of right answers by the stated probabilities, without labels."""
    not_estimated: str
    """Why there is no such estimate."""

    @property
    def alarm(self) -> bool:
        """Whether it is worse than the card states, beyond chance and `TOLERANCE`."""
        share = self.measures.get(SHARE)
        if share is None or share.weighted is None or self.expected is None:
            return False
        return share.n >= LEAST_LABELS and share.weighted.high < self.expected - TOLERANCE


def measure(store: Store, card: ModelCard, days: float) -> Quality:
    """The quality of a version's answers of the last days. Raises StoreError."""
    key = model_key(card.name, card.version)
    first = id_from(time.time() - days * DAY_SECONDS)
    with store.transaction() as opened:
        kept, strata, known = _strata(opened, key, first)
        rows = opened.execute(_LABELED, (first, key.to_bytes(4))).fetchall()
    is_single = card.head is not Head.SIGMOID
    labeled, new = labeled_of(card, [row for row in rows if is_single or row["logits"] is not None])
    estimated = strata.stated.sum() / strata.answers.sum() if kept else None
    reason = ""
    if not is_single:
        reason = "several labels may hold"
    elif not kept:
        reason = "no answer is kept"
    elif known < KNOWN_SHARE:
        reason = f"only {known:.1%} of the images are known, and it takes {KNOWN_SHARE:.0%}"
    return Quality(
        card.name,
        card.version,
        kept,
        len(labeled.stated),
        _measures(card, labeled, strata) if len(labeled.stated) else {},
        _confusion(labeled) if is_single else {},
        new,
        expected(card),
        None if reason else estimated,
        reason,
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


def _strata(opened: sqlite3.Connection, key: int, first: bytes) -> tuple[int, Strata, float]:
    """How many answers there are, how many of each stratum, and the share that is known."""
    strata = Strata(np.zeros(STRATA), np.zeros(STRATA))
    kept = 0
    for row in opened.execute(_STRATA, (key, first)):
        kept += row["kept"]
        strata.answers[row["stratum"]] = row["count"]
        strata.stated[row["stratum"]] = row["stated"]
    return kept, strata, float(1 - strata.answers[-1] / strata.answers.sum()) if kept else 0.0


def labeled_of(card: ModelCard, rows: Sequence[sqlite3.Row]) -> tuple[Labeled, dict[str, int]]:
    """The labels with their answers; of an answer that is not in the store, by its id."""
    n, k = len(rows), len(card.labels)
    place = {label: i for i, label in enumerate(card.labels)}
    truth = np.zeros((n, k), np.bool_)
    answered = np.zeros((n, k), np.bool_)
    probabilities = np.full((n, k), np.nan)
    stated = np.zeros(n)
    unknown = np.zeros(n, np.bool_)
    new: Counter[str] = Counter()
    for i, row in enumerate(rows):
        for label in json.loads(row["labels"]):
            if label in place:
                truth[i, place[label]] = True
            else:
                new[label] += 1
        receipt = receipt_of(row["id"])
        if row["logits"] is None:
            stated[i] = 1 / (1 + exp(-receipt.log_odds))
        else:
            logits = np.frombuffer(row["logits"], "<f2")[None].astype(np.float64)
            probabilities[i] = heads.probabilities(card.head, logits)[0]
            stated[i], unknown[i] = row["probability"], row["known"] == 0
        if card.head is Head.SIGMOID:
            answered[i] = probabilities[i] >= heads.thresholds(card)
        else:
            answered[i, receipt.argmax] = True
    stratum = np.where(unknown, STRATA - 1, np.searchsorted(EDGES, stated, side="right"))
    is_single = card.head is not Head.SIGMOID
    labels = list(card.labels)
    return Labeled(labels, answered, truth, probabilities, stated, stratum, is_single), dict(new)


def _measures(card: ModelCard, labeled: Labeled, strata: Strata) -> dict[str, Measure]:
    shares = {SHARE: (labeled.right, labeled.stratum)}
    has = np.isfinite(labeled.probabilities).all(axis=1)
    with suppress(CoverageError):  # the model has no sets
        step = conformal.check(card, COVERAGE)
        if card.conformal is not None and has.any():
            inside = conformal.scores(labeled.probabilities[has]) <= card.conformal.table[step]
            covered = (inside & labeled.truth[has]).any(axis=1)
            shares[f"coverage {COVERAGE:g}"] = (covered, labeled.stratum[has])
    is_weighted = strata.answers.sum() > 0
    found = {}
    for name, (right, stratum) in shares.items():
        weighted = weighted_share(right, stratum, strata) if is_weighted else None
        found[name] = Measure(len(right), naive_share(right), weighted)
    n = len(labeled.stated)
    naive = labeled.intervals(np.ones(n))
    of_stratum = np.bincount(labeled.stratum, minlength=STRATA)
    weights = (strata.answers / np.maximum(of_stratum, 1))[labeled.stratum]
    weighted_figures = labeled.intervals(weights) if weights.any() else {}
    for name, estimate in naive.items():
        found[name] = Measure(n, estimate, weighted_figures.get(name))
    return found


def _confusion(labeled: Labeled) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    has = labeled.truth.any(axis=1)
    pairs = zip(labeled.truth[has].argmax(1), labeled.answered[has].argmax(1), strict=True)
    for (truth, answer), count in sorted(Counter(pairs).items()):
        counts.setdefault(labeled.labels[truth], {})[labeled.labels[answer]] = count
    return counts
