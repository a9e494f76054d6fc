"""Types of models in the repository, and of their loaded versions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from logitserve.inference.card import ModelCard
from logitserve.inference.predictor import Predictor
from logitserve_service.execution.batcher import Batcher

State = Literal["READY", "LOADING", "UNAVAILABLE"]
"""State of a version, as in Triton's model repository extension."""
READY: Final = "READY"
LOADING: Final = "LOADING"
UNAVAILABLE: Final = "UNAVAILABLE"


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A verified version, and the batcher that runs it; compared by identity."""

    card: ModelCard
    predictor: Predictor
    batcher: Batcher


@dataclass(frozen=True, slots=True)
class VersionState:
    """State of a version in the repository."""

    version: str
    state: State
    reason: str = ""  # why it is UNAVAILABLE; if READY, why an older file is still served
    sha256: str | None = None  # SHA-256 of the loaded file
    by_policy: bool = False  # whether the version policy makes it UNAVAILABLE


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model in the repository; versions oldest first."""

    versions: dict[str, LoadedModel] = field(default_factory=dict)  # loaded versions
    states: Mapping[str, VersionState] = field(default_factory=dict)  # states of all versions
    unloaded: bool = False  # whether a request unloaded it
