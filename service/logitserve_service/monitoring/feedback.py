"""True labels of answers, sent later with the prediction ids."""

import json
import time
from collections import Counter
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from logitserve.inference.card import CardPart, Head
from logitserve.inference.naming import unknown
from logitserve_service.errors import UnusableRequestError
from logitserve_service.monitoring.receipts import Receipts, receipt_of
from logitserve_service.monitoring.store import DAY_SECONDS, Label, Store
from logitserve_service.telemetry.exchange import NO_MODEL

MAX_LABELS: Final = 10_000
"""Maximum labels in a request."""
MAX_PLACES: Final = 100
EXPIRED, INVALID, NEW_CLASS = "expired", "invalid", "new_class"
NO_ID: Final = "not a prediction id, or signed with another key"

_Text = Annotated[str, Field(max_length=256)]


class TrueLabel(CardPart):
    """The true label or labels of an answer."""

    id: str = Field(description="the prediction id")
    label: _Text | None = Field(
        None, description="the true label; can be one that the model does not have"
    )
    labels: list[_Text] | None = Field(None, description="sigmoid models: all true labels")
    source: str = Field(
        "", max_length=64, description="origin of the label; the latest label of each source counts"
    )
    at: AwareDatetime | None = Field(
        None,
        description="time of the label: ISO 8601 with time zone, or Unix seconds; default: now",
    )


class InvalidLabel(CardPart):
    """The reason why a label was not accepted."""

    index: int = Field(description="index of the label in the request")
    reason: str


class Outcome(CardPart):
    """The outcomes of the labels of a request."""

    accepted: int = 0
    changed: int = Field(0, description="labels that replace another label of the same source")
    same: int = Field(0, description="labels already stored, or older than the stored one")
    expired: int = Field(0, description="labels of answers older than the retention of the store")
    invalid: int = 0
    new_class: int = Field(0, description="stored labels that the model does not have")
    places: list[InvalidLabel] = Field([], description="the first 100 invalid labels")


Counts = Counter[tuple[str, str]]
"""Number of labels by model and outcome."""
_LIST: Final = TypeAdapter(list[TrueLabel])


def parse(document: Any) -> list[TrueLabel]:
    """Parse the labels of a request's JSON: an object, or a list of objects.

    Raises:
        UnusableRequestError: the JSON is something else; the text names the problem.
    """
    given = document if isinstance(document, list) else [document]
    if not 0 < len(given) <= MAX_LABELS:
        raise UnusableRequestError(f"{len(given)} labels; send 1 to {MAX_LABELS:,} in a request")
    try:
        labels = _LIST.validate_python(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        index, *names = first["loc"]
        if first["type"] == "extra_forbidden":
            text = unknown(f"member of label {index}:", str(names[0]), TrueLabel.model_fields)
            raise UnusableRequestError(text) from error
        where = " ".join(map(str, ["label", index, *names]))
        raise UnusableRequestError(f"{where}: {first['msg']}") from error
    for index, each in enumerate(labels):
        if (each.label is None) == (each.labels is None):
            raise UnusableRequestError(f"label {index}: it must have one of 'label' and 'labels'")
    return labels


def take(
    labels: list[TrueLabel], store: Store, receipts: Receipts, days: float
) -> tuple[Outcome, Counts]:
    """Store labels; return their outcomes, and their number by model and outcome.

    An answer that is not in this store is identified by its id alone.

    Args:
        labels: labels of a request.
        store: the store of this host.
        receipts: verifies the ids.
        days: retention of the store in days.

    Raises:
        StoreError: the store is locked, or its disk is full; no label is stored.
    """
    now = time.time()
    models = store.models()
    counts: Counts = Counter()
    places = []
    taken: list[tuple[str, Label]] = []
    for index, given in enumerate(labels):
        identity = receipts.read(given.id)
        model = None if identity is None else models.get(receipt_of(identity).model)
        name = NO_MODEL if model is None else model.name
        names = [given.label or ""] if given.labels is None else sorted(set(given.labels))
        if identity is None or (len(names) != 1 and model and model.head is not Head.SIGMOID):
            counts[name, INVALID] += 1
            reason = f"{name} has one label per image; send 'label'" if identity else NO_ID
            places.append(InvalidLabel(index=index, reason=reason))
        elif receipt_of(identity).at < now - days * DAY_SECONDS:
            counts[name, EXPIRED] += 1
        else:
            counts[name, NEW_CLASS] += model is not None and not set(names) <= set(model.labels)
            at = now if given.at is None else min(now, given.at.timestamp())
            taken.append((name, (identity, given.source, at, json.dumps(names))))
    outcomes = store.add_labels(label for _, label in taken)
    counts.update(zip((name for name, _ in taken), outcomes, strict=True))
    total = Counter[str]()
    for (_, outcome), count in counts.items():
        total[outcome] += count
    return Outcome(**total, places=places[:MAX_PLACES]), counts
