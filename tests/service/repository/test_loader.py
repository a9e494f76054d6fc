"""Loading versions of a model, and refusing them."""

from pathlib import Path

import pytest

from logitserve.inference.model_file import Signature as FileStat
from logitserve.inference.repository import ModelRepository
from logitserve_service.repository.loaded_model import READY, UNAVAILABLE
from logitserve_service.repository.shared_state import SharedState
from logitserve_service.repository.snapshot import VersionFiles, scan
from tests import tiny_models
from tests.service.repository.loading import loader_of


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    for version in "123":
        tiny_models.publish(tmp_path, version=version, seed=int(version))
    return ModelRepository(tmp_path)


def spoil(repository: ModelRepository, version: str, data: bytes = b"garbage") -> bytes:
    path = repository.path("tiny", version)
    whole = path.read_bytes()
    path.write_bytes(data)
    return whole


def files(repository: ModelRepository) -> VersionFiles:
    return scan(repository).files["tiny"]


def test_the_newest_version_that_is_good_is_loaded(repository: ModelRepository) -> None:
    loader = loader_of(repository, "latest")
    whole = spoil(repository, "3")
    model = loader.refresh("tiny", files(repository))
    assert list(model.versions) == ["2"]
    assert [state.state for state in model.states.values()] == [UNAVAILABLE, READY, UNAVAILABLE]
    spoil(repository, "3", whole)
    assert list(loader.refresh("tiny", files(repository)).versions) == ["3"]
    repository.path("tiny", "3").unlink()
    assert list(loader.refresh("tiny", files(repository)).versions) == ["2"]


def test_what_is_loaded_is_not_loaded_again(repository: ModelRepository) -> None:
    loader = loader_of(repository, "all")
    before = loader.refresh("tiny", files(repository)).versions
    repository.path("tiny", "2").touch()  # another stat, the same bytes
    assert loader.refresh("tiny", files(repository)).versions == before
    spoil(repository, "2", repository.path("tiny", "3").read_bytes())
    after = loader.refresh("tiny", files(repository)).versions
    assert [after[version] is before[version] for version in "123"] == [True, False, True]
    assert after["2"].predictor.sha256 == after["3"].predictor.sha256
    assert after["2"].card.version == "2"  # the folder names it


def test_a_refusal_is_counted_once(repository: ModelRepository) -> None:
    shared = SharedState()
    refused: list[str] = []
    workers = [
        loader_of(repository, "latest", shared, count_failure=refused.append) for _ in range(2)
    ]
    spoil(repository, "3")
    for _ in range(3):
        for loader in workers:
            loader.refresh("tiny", files(repository))
            loader.report()
    assert refused == ["tiny"]
    for loader in workers:
        loader.retry_rejected("tiny", 1)
        loader.refresh("tiny", files(repository))
        loader.report()
    assert refused == ["tiny"] * 2


def test_what_changes_while_it_is_read_is_tried_again(repository: ModelRepository) -> None:
    loader = loader_of(repository, "latest")
    outdated = {**files(repository), "3": FileStat(1, 2, 7, 3, 4)}
    assert list(loader.refresh("tiny", outdated).versions) == ["2"]
    assert loader.unsettled() == {"tiny"}
    assert list(loader.refresh("tiny", files(repository)).versions) == ["3"]
    assert loader.unsettled() == set()


def test_what_is_unloaded_goes(repository: ModelRepository) -> None:
    loader = loader_of(repository, "all")
    assert len(loader.refresh("tiny", files(repository)).versions) == 3
    model = loader.refresh("tiny", files(repository), unloaded=True)
    assert (model.versions, len(model.states), model.unloaded) == ({}, 3, True)
    assert len(loader.refresh("tiny", files(repository)).versions) == 3


def test_a_file_that_is_too_large_is_not_read(repository: ModelRepository) -> None:
    """Three gigabytes of a sparse file would be as many in memory."""
    with repository.path("tiny", "3").open("r+b") as file:
        file.truncate(3 * 2**30)
    size = repository.path("tiny", "2").stat().st_size
    refused: list[str] = []
    loader = loader_of(
        repository,
        weigh=lambda found: "" if found <= size else f"{found} bytes",
        count_failure=refused.append,
    )
    entry = loader.refresh("tiny", files(repository))
    assert list(entry.versions) == ["2"]
    assert entry.states["3"].reason == f"{3 * 2**30} bytes"
    loader.report()
    assert refused == ["tiny"]
