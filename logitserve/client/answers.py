"""Typed responses of the server."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's prediction for one picture."""

    model: str
    version: str
    argmax: int
    """Index of the most probable class."""
    label: str
    probability: float
    probabilities: Mapping[str, float]
    """Label → probability; with top_k, the highest in descending order."""
    labels: tuple[str, ...] | None = None
    """Sigmoid models only: labels at or above their thresholds."""
    known: bool | None = None
    """Whether the picture resembles the training data; None if the model cannot tell."""
    set: tuple[str, ...] | None = None
    """Conformal prediction set for the requested coverage; None without one."""
    id: str | None = None
    """Identifier for `feedback`; None if the server gives none."""


@dataclass(frozen=True, slots=True)
class Model:
    """A served model."""

    name: str
    version: str
    versions: tuple[str, ...]
    """All versions, oldest first."""
    is_default: bool
    description: str
    head: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelDetail(Model):
    """A served model with all fields of its card."""

    height: int
    width: int
    channels: int
    fit: str
    temperature: float
    thresholds: tuple[float, ...] | None
    metrics: Mapping[str, float]
    created: datetime
    license: str


_PREDICTION: Final = TypeAdapter(Prediction)
_MODEL: Final = TypeAdapter(Model)
_DETAIL: Final = TypeAdapter(ModelDetail)


def predictions_of(answer: dict[str, Any]) -> list[Prediction]:
    """Return the predictions of a response, in its order."""
    of_all = {"model": answer["model"], "version": answer["version"]}
    return [_PREDICTION.validate_python(of_all | entry) for entry in answer["predictions"]]


def models_of(answer: dict[str, Any]) -> list[Model]:
    """Return the models of a list response."""
    models = answer["models"]
    return [_MODEL.validate_python(entry | {"is_default": entry["default"]}) for entry in models]


def detail_of(answer: dict[str, Any]) -> ModelDetail:
    """Return one model with its card."""
    card = answer["card"]
    return _DETAIL.validate_python(
        card | card["input"] | answer | {"is_default": answer["default"]}
    )
