"""Loaders for tests."""

from logitserve.inference.repository import ModelRepository
from logitserve_service.config.version_policy import VersionPolicy
from logitserve_service.repository.loader import Loader
from tests.service.gated import batcher_of


def loader_of(repository: ModelRepository, policy: str = "latest") -> Loader:
    return Loader(repository, VersionPolicy.parse(policy), batcher_of)
