"""Loaders for tests."""

from collections.abc import Callable

from logitserve.inference.repository import ModelRepository
from logitserve_service.config.version_policy import VersionPolicy
from logitserve_service.repository.loader import Loader
from logitserve_service.repository.shared_state import SharedState
from tests.service.gated import batcher_of


def loader_of(
    repository: ModelRepository,
    policy: str = "latest",
    shared: SharedState | None = None,
    weigh: Callable[[int], str] = lambda _: "",
    count_failure: Callable[[str], None] = lambda _: None,
) -> Loader:
    return Loader(
        repository,
        VersionPolicy.parse(policy),
        batcher_of,
        shared or SharedState(),
        count_failure=count_failure,
        weigh=weigh,
    )
