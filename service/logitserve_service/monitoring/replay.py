"""Compare two versions on the pictures of a store on which their predictions differ."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from PIL import Image

from logitserve.inference.comparing import decisions
from logitserve.inference.predictor import Predictor
from logitserve_service.monitoring.store import Store

_AT_ONCE: Final = 256
_PICTURES: Final = """
SELECT p.id, p.png, max(f.at), f.labels
FROM picture p JOIN answer a ON a.id = p.id LEFT JOIN feedback f ON f.id = p.id
WHERE a.model = ? GROUP BY p.id"""


@dataclass(slots=True)
class Replayed:
    """The predictions of two versions for the pictures of a store."""

    pictures: int = 0
    differ: int = 0
    """Number of pictures with different predicted labels."""
    only: list[int] = field(default_factory=lambda: [0, 0])
    """Number of labeled pictures that only the first, and only the second, predicts correctly."""
    neither: int = 0
    """Number of labeled pictures that differ and that both predict wrongly."""
    unlabeled: dict[bytes, bytes] = field(default_factory=dict)
    """Id → PNG of the pictures that differ and have no label."""


def replay(store: Store, name: str, first: Predictor, second: Predictor) -> Replayed:
    """Run both versions on the stored pictures of a model's answers.

    Args:
        store: the store with the pictures.
        name: name of the model; pictures of another input shape are left out.
        first: the first version; it takes the same input as the second.
        second: the second version; it may have other labels.

    Raises:
        StoreError: the store is locked for too long.
    """
    found = Replayed()
    shape = first.card.input.shape
    labels = tuple(dict.fromkeys(first.card.labels + second.card.labels))
    cards = store.models().items()
    with store.transaction() as opened:
        for key in [key for key, of in cards if of.name == name and of.input.shape == shape]:
            rows = opened.execute(_PICTURES, (key,))
            while batch := rows.fetchmany(_AT_ONCE):
                pixels = [np.asarray(Image.open(io.BytesIO(row["png"]))) for row in batch]
                images = np.stack(pixels).reshape(len(batch), *shape)
                said = [
                    decisions(each.card, each.predict(images), labels) for each in (first, second)
                ]
                found.pictures += len(batch)
                for at in np.flatnonzero((said[0] != said[1]).any(axis=1)):
                    found.differ += 1
                    row, answers = batch[at], [each[at, :-1] for each in said]
                    if row["labels"] is None:
                        found.unlabeled[row["id"]] = row["png"]
                    else:
                        _judge(found, json.loads(row["labels"]), labels, answers)
    return found


def _judge(
    found: Replayed,
    truth: Sequence[str],
    labels: Sequence[str],
    answers: Sequence[np.typing.NDArray[np.bool_]],
) -> None:
    """Count a labeled picture; a label that neither version has makes both wrong."""
    is_known = set(truth) <= set(labels)
    holds = np.isin(labels, truth)
    right = [is_known and bool((answer == holds).all()) for answer in answers]
    for index, is_right in enumerate(right):
        found.only[index] += is_right
    found.neither += not any(right)
