"""Models of the repository, and their versions in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from logitserve.inference.card import ModelCard
from logitserve.inference.predictor import Predictor
from logitserve_service.execution.batcher import Batcher

State = Literal["READY", "LOADING", "UNAVAILABLE"]
"""Of a version, as in Triton's repository extension."""
READY: Final = "READY"
LOADING: Final = "LOADING"
UNAVAILABLE: Final = "UNAVAILABLE"


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A verified version, and the batcher that runs it. Equal only to itself."""

    card: ModelCard
    predictor: Predictor
    batcher: Batcher


@dataclass(frozen=True, slots=True)
class VersionState:
    """State of a version in the repository."""

    version: str
    state: State
    reason: str = ""  # for UNAVAILABLE; for READY, why an older file is still served
    sha256: str | None = None  # of the loaded file
    by_policy: bool = False  # whether the policy is the reason for UNAVAILABLE


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model in the repository; versions oldest first."""

    versions: dict[str, LoadedModel] = field(default_factory=dict)  # only loaded ones
    states: Mapping[str, VersionState] = field(default_factory=dict)  # of all versions
    unloaded: bool = False  # by request
