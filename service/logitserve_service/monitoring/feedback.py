"""True labels of answers, sent later by the ids of these."""

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
"""In a request."""
MAX_PLACES: Final = 100
EXPIRED, INVALID, NEW_CLASS = "expired", "invalid", "new_class"
NO_ID: Final = "this is no id of a prediction, or was signed with another key"

_Text = Annotated[str, Field(max_length=256)]


class TrueLabel(CardPart):
    """What is true of an answer."""

    id: str = Field(description="of the prediction")
    label: _Text | None = Field(None, description="the one that is right; may be one of no class")
    labels: list[_Text] | None = Field(None, description="sigmoid models: all that hold")
    source: str = Field(
        "", max_length=64, description="who says so; of each source the latest label counts"
    )
    at: AwareDatetime | None = Field(
        None, description="when: ISO 8601 with its zone, or Unix seconds; now if it is left out"
    )


class InvalidLabel(CardPart):
    """Why a label was not taken."""

    index: int = Field(description="its place in the request")
    reason: str


class Outcome(CardPart):
    """What became of the labels of a request."""

    accepted: int = 0
    changed: int = Field(0, description="the source has said another one before")
    same: int = Field(0, description="it is there already, or a later one is")
    expired: int = Field(0, description="the answer is older than what the store keeps")
    invalid: int = 0
    new_class: int = Field(0, description="of those that were kept, labels that no class has")
    places: list[InvalidLabel] = Field([], description="of the first 100 invalid ones")


Counts = Counter[tuple[str, str]]
"""Labels by model and outcome."""
_LIST: Final = TypeAdapter(list[TrueLabel])


def parse(document: Any) -> list[TrueLabel]:
    """Labels of the JSON of a request: an object, or a list of them.

    Raises:
        UnusableRequestError: it is something else; the text names what.
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
            raise UnusableRequestError(f"label {index}: it has one of 'label' and 'labels'")
    return labels


def take(
    labels: list[TrueLabel], store: Store, receipts: Receipts, days: float
) -> tuple[Outcome, Counts]:
    """Keep labels; what became of them, and how many by model and outcome.

    An answer that this store does not have yet, or never, counts by what its id says.

    Args:
        labels: of a request.
        store: of this host.
        receipts: check the ids.
        days: that the store keeps.

    Raises:
        StoreError: the store is locked, or its disk full; no label is kept.
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
            reason = f"{name} has one label an image; send 'label'" if identity else NO_ID
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
