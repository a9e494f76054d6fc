"""What a server says, typed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one picture."""

    model: str
    version: str
    argmax: int
    """Index of the most probable class."""
    label: str
    probability: float
    probabilities: Mapping[str, float]
    """Label → probability; with top_k the highest, in their order."""
    labels: tuple[str, ...] | None
    """Sigmoid models only: those at or above their thresholds."""
    known: bool | None
    """Whether the picture is like those of the training; None where the model cannot tell."""
    set: tuple[str, ...] | None
    """Labels that hold the right one with the coverage asked for; None without it."""
    id: str | None = None
    """By which `feedback` tells the true label; None where the server gives none."""


@dataclass(frozen=True, slots=True)
class Model:
    """A served model."""

    name: str
    version: str
    versions: tuple[str, ...]
    """Oldest first."""
    is_default: bool
    description: str
    head: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelDetail(Model):
    """A served model with the rest of its card."""

    height: int
    width: int
    channels: int
    fit: str
    temperature: float
    thresholds: tuple[float, ...] | None
    metrics: Mapping[str, float]
    created: datetime
    license: str


def predictions_of(answer: dict[str, Any]) -> list[Prediction]:
    """The predictions that an answer carries, in its order."""
    return [
        Prediction(
            model=answer["model"],
            version=answer["version"],
            argmax=entry["argmax"],
            label=entry["label"],
            probability=entry["probability"],
            probabilities=entry["probabilities"],
            labels=_tuple(entry.get("labels")),
            known=entry.get("known"),
            set=_tuple(entry.get("set")),
            id=entry.get("id"),
        )
        for entry in answer["predictions"]
    ]


def models_of(answer: dict[str, Any]) -> list[Model]:
    """The models that the list of them names."""
    return [Model(**_summary(entry, entry)) for entry in answer["models"]]


def detail_of(answer: dict[str, Any]) -> ModelDetail:
    """One model with its card."""
    card = answer["card"]
    taken = {name: card["input"][name] for name in ("height", "width", "channels", "fit")}
    return ModelDetail(
        **_summary(answer, card),
        **taken,
        temperature=card["temperature"],
        thresholds=_tuple(card["thresholds"]),
        metrics=card["metrics"],
        created=datetime.fromisoformat(card["created"]),
        license=card["license"],
    )


def _summary(entry: dict[str, Any], card: dict[str, Any]) -> dict[str, Any]:
    """The fields of `Model`."""
    return {
        "name": entry["name"],
        "version": entry["version"],
        "versions": tuple(entry["versions"]),
        "is_default": entry["default"],
        "description": card["description"],
        "head": card["head"],
        "labels": tuple(card["labels"]),
    }


def _tuple(values: Iterable[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)
