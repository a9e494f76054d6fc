"""What is asked of the catalog while models come and go."""

import asyncio
import gc
import weakref
from pathlib import Path

import pytest

from logitserve.inference.errors import ModelNotFoundError
from logitserve.inference.repository import ModelRepository
from logitserve_service.errors import ModelUnavailableError, NotReadyError
from logitserve_service.repository.catalog import Catalog
from logitserve_service.repository.loaded_model import ModelEntry
from logitserve_service.repository.shared_state import SharedState
from logitserve_service.repository.snapshot import scan
from tests import tiny_models
from tests.service.gated import answer, ask, picture, result_of
from tests.service.repository.loading import loader_of


def catalog_of(folder: Path, policy: str = "latest", shared: SharedState | None = None) -> Catalog:
    loader = loader_of(ModelRepository(folder / "models"), policy, shared)
    return Catalog.load(loader)


def refresh(catalog: Catalog, name: str = "tiny", *, unloaded: bool = False) -> None:
    files = scan(catalog.loader.repository).files[name]
    catalog.put(name, catalog.loader.refresh(name, files, unloaded=unloaded))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_models.publish(tmp_path / "models", version="1", seed=1)
    return tmp_path


@pytest.mark.anyio
async def test_who_asked_before_a_swap_is_answered_by_whom_they_asked(folder: Path) -> None:
    catalog = catalog_of(folder)
    old = catalog.find()
    asked = ask(old.batcher, picture(0))
    tiny_models.publish(folder / "models", version="2", seed=2)
    refresh(catalog)
    new = catalog.find()
    assert (old.card.version, new.card.version) == ("1", "2")
    answered, other = result_of(await asked), await answer(new.batcher, picture(0))
    expected = old.predictor.predict(picture(0))
    assert answered.predictions.logits.tolist() == expected.logits.tolist()
    assert other.predictions.logits.tolist() != expected.logits.tolist()


@pytest.mark.anyio
async def test_a_version_that_nobody_asks_any_more_is_freed(folder: Path) -> None:
    catalog = catalog_of(folder)
    old = catalog.find()
    reply = ask(old.batcher, picture(0))
    gone = weakref.ref(old.predictor)
    tiny_models.publish(folder / "models", version="2", seed=2)
    refresh(catalog)
    await reply
    assert gone() is not None
    del old, reply
    await asyncio.sleep(0)  # the batcher looks whether there is more to do
    gc.collect()
    assert gone() is None


def test_why_there_is_no_answer(folder: Path) -> None:
    tiny_models.publish(folder / "models", version="2", seed=2)
    catalog = catalog_of(folder)
    assert catalog.find("tiny", "2") is catalog.find("tiny") is catalog.find()
    with pytest.raises(ModelNotFoundError, match=r"policy is 'latest' .*LOGITSERVE_VERSION_POLICY"):
        catalog.find("tiny", "1")
    with pytest.raises(ModelNotFoundError, match="no version '3' of model 'tiny'; there is 2"):
        catalog.find("tiny", "3")
    with pytest.raises(ModelNotFoundError, match="no model 'cats'; there is tiny"):
        catalog.find("cats")
    with pytest.raises(ModelNotFoundError, match=r"'tny'; did you mean 'tiny'\? there is tiny"):
        catalog.find("tny")
    refresh(catalog, unloaded=True)
    with pytest.raises(ModelNotFoundError, match="is unloaded; POST /v2/repository"):
        catalog.find()
    for version in "12":
        (folder / f"models/tiny/{version}/model.onnx").write_bytes(b"garbage")
    refresh(catalog)
    with pytest.raises(
        ModelUnavailableError,
        match=r"version '2' .* cannot be served: onnxruntime cannot load the file",
    ):
        catalog.find()
    catalog.put("tiny", ModelEntry())
    with pytest.raises(NotReadyError, match="no model is loaded"):
        catalog.find()


def test_a_state_says_that_a_version_is_being_loaded(folder: Path) -> None:
    catalog = catalog_of(folder)
    catalog.show_loading("tiny", ["10", "2"])
    states = [(state.version, state.state) for _, state in catalog.index()]
    assert states == [("1", "READY"), ("2", "LOADING"), ("10", "LOADING")]
    assert [state.version for _, state in catalog.index(only_ready=True)] == ["1"]


def test_a_worker_that_comes_later_is_not_strict_and_keeps_the_default(folder: Path) -> None:
    shared = SharedState()
    assert catalog_of(folder, shared=shared).default == "tiny"
    tiny_models.publish(folder / "models", name="digits", seed=3)
    tiny_models.publish(folder / "models", name="bad", seed=4)
    (folder / "models/bad/1/model.onnx").write_bytes(b"garbage")
    later = catalog_of(folder, shared=shared)
    assert (later.default, list(later.models)) == ("tiny", ["digits", "tiny"])
    assert list(later.folder) == ["bad", "digits", "tiny"]


def test_a_copy_in_another_folder_is_another_model(folder: Path) -> None:
    path = folder / "models/copy/7/model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes((folder / "models/tiny/1/model.onnx").read_bytes())
    card = catalog_of(folder).find("copy").card
    assert (card.name, card.version) == ("copy", "7")


def test_a_later_worker_begins_with_what_others_have_loaded(folder: Path) -> None:
    models, shared = folder / "models", SharedState()
    tiny_models.publish(models, name="other")
    first = catalog_of(folder, shared=shared)
    for name in ("tiny", "new"):
        tiny_models.publish(models, name=name, version="7")
    (models / "other/1/model.onnx").touch()
    later = catalog_of(folder, shared=shared)
    served = {name: list(versions) for name, versions in later.models.items()}
    # Of "new", and of "other" as it is now, nothing was loaded before.
    assert served == {"new": ["7"], "other": ["1"], "tiny": ["1"]}
    assert later.find("tiny").predictor.sha256 == first.find("tiny").predictor.sha256
