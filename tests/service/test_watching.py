"""What a look at the folder of models leads to, as far as it needs no process."""

import string
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitserve.inference.model_file import Signature
from logitserve.inference.repository import Key, Look, ModelRepository
from logitserve_service.config.version_policy import VersionPolicy
from logitserve_service.repository.loader import READY, UNAVAILABLE, Loader
from logitserve_service.repository.watcher import Files, changed, of_model, settled, with_unreadable
from tests import tiny_models


def signature(size: int) -> Signature:
    return Signature(1, 2, size, 3, 4)


A, B, C = ("digits", "1"), ("digits", "2"), ("zero", "1")
ONE, TWO, THREE = map(signature, (1, 2, 3))

keys = st.tuples(st.sampled_from(string.ascii_lowercase[:3]), st.sampled_from(["1", "2", "10"]))
snapshots = st.dictionaries(keys, st.sampled_from([ONE, TWO, THREE]))


@pytest.mark.parametrize(
    ("accepted", "before", "now", "believed"),
    [
        ({A: ONE}, {A: ONE}, {A: ONE}, {A: ONE}),
        ({A: ONE}, {A: ONE}, {A: ONE, B: ONE}, {A: ONE}),  # seen once
        ({A: ONE}, {A: ONE, B: ONE}, {A: ONE, B: ONE}, {A: ONE, B: ONE}),
        ({A: ONE}, {A: ONE, B: ONE}, {A: ONE, B: TWO}, {A: ONE}),  # still grows
        ({A: ONE}, {A: ONE}, {A: TWO}, {A: ONE}),
        ({A: ONE}, {A: TWO}, {A: TWO}, {A: TWO}),
        ({A: ONE}, {A: ONE}, {}, {A: ONE}),  # gone for the moment
        ({A: ONE}, {}, {}, {}),
        ({A: ONE}, {}, {A: ONE}, {A: ONE}),
    ],
)
def test_a_change_counts_when_two_looks_agree(
    accepted: Files, before: Files, now: Files, believed: Files
) -> None:
    assert settled(accepted, before, now) == believed


@given(snapshots, snapshots, snapshots)
def test_what_stays_as_it_is_is_believed_in_the_end(
    accepted: Files, before: Files, now: Files
) -> None:
    believed = settled(settled(accepted, before, now), now, now)
    assert believed == dict(now)
    order = [(name, int(version)) for name, version in believed]
    assert order == sorted(order)
    assert changed(believed, now) == set()


@given(snapshots, snapshots)
def test_only_models_that_changed_are_looked_after(old: Files, new: Files) -> None:
    names = {name for name, _ in (*old, *new)}
    same = {name for name in names if of_model(old, name) == of_model(new, name)}
    assert changed(old, new) == names - same


def test_what_cannot_be_looked_into_is_as_it_was() -> None:
    before: dict[Key, Signature] = {A: ONE, B: TWO, C: ONE}
    look = Look({C: THREE}, {"digits": "Permission denied"})
    assert with_unreadable(look, before) == {A: ONE, B: TWO, C: THREE}


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


def files(repository: ModelRepository) -> dict[str, Signature]:
    return of_model(repository.look().files, "tiny")


def test_the_newest_version_that_is_good_is_loaded(repository: ModelRepository) -> None:
    loader = Loader(repository, VersionPolicy.parse("latest"))
    whole = spoil(repository, "3")
    model = loader.refresh("tiny", files(repository))
    assert list(model.versions) == ["2"]
    assert [state.state for state in model.states.values()] == [UNAVAILABLE, READY, UNAVAILABLE]
    spoil(repository, "3", whole)
    assert list(loader.refresh("tiny", files(repository)).versions) == ["3"]
    repository.path("tiny", "3").unlink()
    assert list(loader.refresh("tiny", files(repository)).versions) == ["2"]


def test_what_is_loaded_is_not_loaded_again(repository: ModelRepository) -> None:
    loader = Loader(repository, VersionPolicy.parse("all"))
    before = loader.refresh("tiny", files(repository)).versions
    repository.path("tiny", "2").touch()  # another signature, the same bytes
    assert loader.refresh("tiny", files(repository)).versions == before
    spoil(repository, "2", repository.path("tiny", "3").read_bytes())
    after = loader.refresh("tiny", files(repository)).versions
    assert [after[version] is before[version] for version in "123"] == [True, False, True]
    assert after["2"].model.sha256 == after["3"].model.sha256
    assert after["2"].card.version == "2"  # the folder names it


def test_a_refusal_is_counted_once(repository: ModelRepository) -> None:
    said: Counter[str] = Counter()

    def is_first(text: str) -> bool:
        said[text] += 1
        return said[text] == 1

    workers = [Loader(repository, VersionPolicy.parse("latest")) for _ in range(2)]
    spoil(repository, "3")
    for _ in range(3):
        for loader in workers:
            loader.refresh("tiny", files(repository))
            loader.report(is_first)
    assert sum(loader.failures["tiny"] for loader in workers) == 1
    for loader in workers:
        loader.forgive("tiny", 1)
        loader.refresh("tiny", files(repository))
        loader.report(is_first)
    assert sum(loader.failures["tiny"] for loader in workers) == 2


def test_what_changes_while_it_is_read_is_tried_again(repository: ModelRepository) -> None:
    loader = Loader(repository, VersionPolicy.parse("latest"))
    outdated = {**files(repository), "3": signature(7)}
    assert list(loader.refresh("tiny", outdated).versions) == ["2"]
    assert loader.unsettled() == {"tiny"}
    assert list(loader.refresh("tiny", files(repository)).versions) == ["3"]
    assert loader.unsettled() == set()


def test_what_is_unloaded_goes(repository: ModelRepository) -> None:
    loader = Loader(repository, VersionPolicy.parse("all"))
    assert len(loader.refresh("tiny", files(repository)).versions) == 3
    model = loader.refresh("tiny", files(repository), unloaded=True)
    assert (model.versions, len(model.states), model.unloaded) == ({}, 3, True)
    assert len(loader.refresh("tiny", files(repository)).versions) == 3
