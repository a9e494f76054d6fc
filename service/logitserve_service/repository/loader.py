"""Load versions from the model repository: read, verify and warm up, or refuse them."""

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from logitserve.inference.card import ModelCard
from logitserve.inference.errors import FileChangedError, InferenceError
from logitserve.inference.model_file import Reading, read
from logitserve.inference.model_file import Signature as FileStat
from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import ModelRepository
from logitserve_service.config.version_policy import VersionPolicy
from logitserve_service.execution.batcher import Batcher
from logitserve_service.execution.shadow import Outcome
from logitserve_service.repository import loaded_model
from logitserve_service.repository.loaded_model import LoadedModel, ModelEntry, VersionState
from logitserve_service.repository.shared_state import SharedState
from logitserve_service.repository.snapshot import VersionFiles

logger = logging.getLogger("logitserve.models")


@dataclass(slots=True)
class _Version:
    model: LoadedModel | None = None
    file: FileStat | None = None  # the file that `model` was loaded from
    tried: FileStat | None = None  # the file that was loaded or refused last
    refusal: str = ""  # why `tried` was refused; `model` is then from an older file
    is_changing: bool = False  # whether the file changed while it was read

    def is_usable(self, file: FileStat) -> bool:
        """Return whether the version is loaded, or may be loadable."""
        is_refused = self.refusal != "" and self.tried == file
        return self.model is not None or not (is_refused or self.is_changing)

    def needs_load(self, file: FileStat) -> bool:
        return self.tried != file and not self.is_changing

    def drop(self) -> None:
        """Free the model, but remember a refusal."""
        self.model = None
        if not self.refusal:
            self.tried = None


class Loader:
    """Loads the versions that the policy selects. Used by one thread at a time."""

    def __init__(
        self,
        repository: ModelRepository,
        policy: VersionPolicy,
        make_batcher: Callable[[Predictor], Batcher],
        shared: SharedState,
        *,
        count_failure: Callable[[str], None] = lambda _: None,
        count_shadow: Callable[[ModelCard, Outcome, int], None] = lambda *_: None,
        threads: int = 1,
        weigh: Callable[[int], str] = lambda _: "",
    ) -> None:
        """Set up loading.

        Args:
            repository: the folder of models.
            policy: selects the versions to load.
            make_batcher: makes the batcher of a version; called in the loading thread.
            shared: state that all workers share.
            count_failure: called with the name of a model that has a refused version, by one worker
                only.
            count_shadow: called with the card of a shadow, an outcome and its number of images.
            threads: threads per model run.
            weigh: returns why a file of that many bytes is too large, or an empty text.
        """
        self.repository = repository
        self.policy = policy
        self.shared = shared
        self.count_shadow = count_shadow
        self._weigh = weigh
        self._count_failure = count_failure
        self._make_batcher = make_batcher
        self._threads = threads
        self._models: dict[str, dict[str, _Version]] = {}
        self._named: dict[str, frozenset[str]] = {}  # model → versions in its rollout
        self._retries: Counter[str] = Counter()
        self._unreported: list[tuple[str, str]] = []

    def unsettled(self) -> set[str]:
        """Return the models with a file that changed while it was read; refresh them again."""
        known = self._models.items()
        return {name for name, found in known if any(each.is_changing for each in found.values())}

    def retry_rejected(self, name: str, generation: int) -> None:
        """Make the next refresh retry refused versions; each load request logs a refusal again."""
        self._retries[name] = generation
        for version in self._models.get(name, {}).values():
            if version.refusal:
                version.tried, version.refusal = None, ""

    def missing(self, name: str, files: VersionFiles) -> list[str]:
        """Return the selected versions whose current files are not loaded."""
        known = self._models.get(name, {})
        return [
            version
            for version in self._chosen(name, files)
            if known.get(version, _Version()).needs_load(files[version])
        ]

    def refresh(
        self,
        name: str,
        files: VersionFiles,
        *,
        named: frozenset[str] | None = None,
        unloaded: bool = False,
    ) -> ModelEntry:
        """Load the missing versions of a model, and drop those that are no longer selected.

        Versions `named` by a rollout are selected too; None keeps the previous ones. If a version
        is refused, the policy selects among the others. A version stays loaded if its file is
        overwritten by one that is refused.
        """
        if named is not None:
            self._named[name] = named
        old = self._models.get(name, {})
        known = self._models[name] = {version: old.get(version, _Version()) for version in files}
        for version in known.values():
            version.is_changing = False
        while not unloaded and (missing := self.missing(name, files)):
            self._try(name, missing[-1], files[missing[-1]])
        chosen = [] if unloaded else self._chosen(name, files)
        for version_name, version in known.items():
            if version_name not in chosen:
                version.drop()
        if not known:
            del self._models[name]
        return ModelEntry(
            {key: version.model for key, version in known.items() if version.model is not None},
            {key: self._state(key, version, unloaded=unloaded) for key, version in known.items()},
            unloaded,
        )

    def report(self) -> None:
        """Share what is loaded with the other workers; log and count new refusals once for all."""
        self.shared.serve(
            _identity(name, key, version.file)
            for name, versions in self._models.items()
            for key, version in versions.items()
            if version.model is not None and version.file is not None
        )
        unreported, self._unreported = self._unreported, []
        for name, key in unreported:
            version = self._models.get(name, {}).get(key)
            if version is None or not version.refusal:
                continue
            refusal = f"{name} {key} {version.tried} {version.refusal} {self._retries[name]}"
            if self.shared.first_to_log(refusal):
                self._count_failure(name)
                logger.error("model %s version %s is refused: %s", name, key, version.refusal)

    def _chosen(self, name: str, files: VersionFiles) -> list[str]:
        known = self._models.get(name, {})
        usable = [key for key in files if known.get(key, _Version()).is_usable(files[key])]
        chosen = {*self.policy.chosen(name, usable), *self._named.get(name, ())}
        return [key for key in usable if key in chosen]

    def _try(self, name: str, key: str, file: FileStat) -> None:
        """Load a version, or refuse it."""
        version = self._models[name][key]
        try:
            version.model = self._load(name, key, file)
        except FileChangedError:
            version.is_changing = True
            return
        except InferenceError as error:
            version.refusal = str(error)
        # onnxruntime raises many exception types for a bad file; only that file is refused.
        except Exception as error:  # noqa: BLE001
            version.refusal = f"it does not run: {str(error).partition(chr(10))[0]}"
        else:
            version.refusal, version.file = "", file
        version.tried = file
        if version.refusal:
            self._unreported.append((name, key))

    def _load(self, name: str, key: str, file: FileStat) -> LoadedModel:
        path, identity = self.repository.path(name, key), _identity(name, key, file)
        with (
            self.shared.loading(identity, self._retries[name], lambda: self._weigh(file.size)),
            self.shared.reading(identity) or read(path, file) as content,
        ):
            loaded = self._models[name][key].model
            if loaded is None or loaded.predictor.sha256 != content.sha256:
                loaded = self._made(content, name, key, path)
            self.shared.keep(identity, name, key, file, content)
            return loaded

    def reading(self, model: LoadedModel) -> AbstractContextManager[Reading]:
        """Open the current bytes of a version, which may differ from those of `model`.

        Raises:
            ModelFileError: the bytes are no longer available.
        """
        name, key = model.card.name, model.card.version
        version = self._models.get(name, {}).get(key, _Version())
        kept = version.file and self.shared.reading(_identity(name, key, version.file))
        return kept or read(self.repository.path(name, key), version.file)

    def _made(self, content: Reading, name: str, key: str, path: Path) -> LoadedModel:
        predictor = Predictor.of(content, threads=self._threads, path=path)
        # The folder determines name and version, not the card: a copy elsewhere is another model.
        predictor.card = predictor.card.model_copy(update={"name": name, "version": key})
        return LoadedModel(predictor.card, predictor, self._make_batcher(predictor))

    def _state(self, key: str, version: _Version, *, unloaded: bool) -> VersionState:
        if version.model is not None:
            reason = version.refusal and (
                f"its file was overwritten, and is refused: {version.refusal}; the version "
                "loaded before is still served"
            )
            return VersionState(key, loaded_model.READY, reason, version.model.predictor.sha256)
        reason = "unloaded by request" if unloaded else version.refusal
        if not reason and version.is_changing:
            reason = "its file is being written"
        by_policy = not reason
        if by_policy:
            reason = f"not loaded: the version policy is {self.policy.text!r}"
        return VersionState(key, loaded_model.UNAVAILABLE, reason, by_policy=by_policy)


def _identity(name: str, key: str, file: FileStat) -> str:
    """Return a text that identifies a version and its current file."""
    return f"{name}/{key} {file}"
