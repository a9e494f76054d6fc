"""Versions on their way from the folder into memory: read, proven, or refused.

Nothing here touches what answers requests; `catalog.py` takes over what comes out.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from logitserve.inference.errors import FileChangedError, InferenceError
from logitserve.inference.model_file import Signature, read
from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import Key, ModelRepository
from logitserve_service.config.version_policy import VersionPolicy
from logitserve_service.execution.batcher import Batcher

State = Literal["READY", "LOADING", "UNAVAILABLE"]
READY: Final = "READY"
LOADING: Final = "LOADING"
UNAVAILABLE: Final = "UNAVAILABLE"
"""States of a version, as Triton's repository extension calls them."""

logger = logging.getLogger("logitserve.models")


@dataclass(frozen=True, slots=True)
class VersionState:
    """How a version is that lies in the folder of models."""

    version: str
    state: State
    reason: str = ""
    """Why it is not ready; of one that is, why it is not what now lies in the folder."""
    sha256: str | None = None
    """Of the bytes that answer; None where none do."""
    by_policy: bool = False
    """Whether it is not ready because the policy does not choose it."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model as it is to be served from now on; versions oldest first."""

    versions: dict[str, Batcher] = field(default_factory=dict)
    states: Mapping[str, VersionState] = field(default_factory=dict)
    unloaded: bool = False
    """Whether it was unloaded by hand."""


@dataclass(slots=True)
class _Loaded:
    model: Batcher
    signature: Signature


@dataclass(frozen=True, slots=True)
class _Refused:
    signature: Signature
    reason: str


class Loader:
    """Loads what the policy chooses, and remembers what it refused. For one thread at a time."""

    def __init__(
        self,
        repository: ModelRepository,
        policy: VersionPolicy,
        *,
        threads: int = 1,
        max_queue: int = 2048,
    ) -> None:
        """Take what it needs to know.

        Args:
            repository: where the models are.
            policy: which versions are loaded.
            threads: threads of one run of a model.
            max_queue: pictures that may wait for one model.
        """
        self.repository = repository
        self.policy = policy
        self.failures: Counter[str] = Counter()
        """Model → versions of it that were refused."""
        self._tries: Counter[str] = Counter()
        self._threads = threads
        self._max_queue = max_queue
        self._loaded: dict[Key, _Loaded] = {}
        self._refused: dict[Key, _Refused] = {}
        self._changing: set[Key] = set()
        self._news: list[Key] = []

    def unsettled(self) -> set[str]:
        """Models with a file that changed while it was read; they are to be tried again."""
        return {name for name, _ in self._changing}

    def forgive(self, name: str, order: int) -> None:
        """Try the refused versions of a model again, changed or not.

        Args:
            name: of the model.
            order: the number of the order to do so, the same in all workers.
        """
        self._tries[name] = order
        for key in [key for key in self._refused if key[0] == name]:
            del self._refused[key]

    def missing(self, name: str, files: Mapping[str, Signature]) -> list[str]:
        """The versions that are chosen and not loaded as they lie in the folder.

        Args:
            name: of the model.
            files: version → signature, oldest first.
        """
        usable = [version for version in files if self._is_usable((name, version), files[version])]
        return [
            version
            for version in self.policy.chosen(name, usable)
            if not self._is_settled((name, version), files[version])
        ]

    def refresh(
        self, name: str, files: Mapping[str, Signature], *, unloaded: bool = False
    ) -> Model:
        """Load what is chosen of a model and not loaded, and drop what is not chosen.

        A version that is refused leaves the choice to the older ones. One that was loaded and
        whose file has been overwritten with something that is refused goes on answering.

        Args:
            name: of the model.
            files: version → signature, oldest first; none where the model has gone.
            unloaded: whether nothing of it is wanted.
        """
        self._changing -= {key for key in self._changing if key[0] == name}
        chosen: list[str] = []
        if not unloaded:
            while missing := self.missing(name, files):
                self._try((name, missing[-1]), files[missing[-1]])
            usable = [v for v in files if self._is_usable((name, v), files[v])]
            chosen = [v for v in self.policy.chosen(name, usable) if (name, v) in self._loaded]
        for key in [key for key in self._loaded if key[0] == name and key[1] not in chosen]:
            del self._loaded[key]
        for key in [key for key in self._refused if key[0] == name and key[1] not in files]:
            del self._refused[key]
        return Model(
            {version: self._loaded[name, version].model for version in chosen},
            {version: self._state((name, version), unloaded=unloaded) for version in files},
            unloaded,
        )

    def report(self, is_first: Callable[[str], bool]) -> None:
        """Log and count what has been refused since the last report.

        Args:
            is_first: whether no other worker has said this before; one line a refusal is enough.
        """
        news, self._news = self._news, []
        for key in news:
            name, version = key
            refused = self._refused.get(key)
            if refused is None or not is_first(f"{key} {refused} {self._tries[name]}"):
                continue
            self.failures[name] += 1
            logger.error("model %s version %s is refused: %s", name, version, refused.reason)

    def refusals(self, name: str) -> dict[str, str]:
        """Version → reason, of the versions of a model that are refused as they lie there."""
        return {key[1]: refused.reason for key, refused in self._refused.items() if key[0] == name}

    def _is_refused(self, key: Key, signature: Signature) -> bool:
        refused = self._refused.get(key)
        return refused is not None and refused.signature == signature

    def _is_usable(self, key: Key, signature: Signature) -> bool:
        return key in self._loaded or not (
            self._is_refused(key, signature) or key in self._changing
        )

    def _is_settled(self, key: Key, signature: Signature) -> bool:
        """Whether nothing more can be made of a version than is loaded of it."""
        loaded = self._loaded.get(key)
        return loaded is not None and (
            loaded.signature == signature
            or self._is_refused(key, signature)
            or key in self._changing
        )

    def _try(self, key: Key, signature: Signature) -> None:
        """Load a version, or refuse it and say why, once."""
        try:
            self._load(key, signature)
        except FileChangedError:
            self._changing.add(key)
            return
        except InferenceError as error:
            reason = str(error)
        # Whatever onnxruntime raises while a file proves itself speaks against that file alone.
        except Exception as error:  # noqa: BLE001
            reason = f"it does not run: {str(error).partition(chr(10))[0]}"
        else:
            self._refused.pop(key, None)
            return
        self._refused[key] = _Refused(signature, reason)
        self._news.append(key)

    def _load(self, key: Key, signature: Signature) -> None:
        name, version = key
        path = self.repository.path(name, version)
        with read(path) as reading:
            if reading.signature != signature:
                raise FileChangedError("the file is not the one that was looked at")
            loaded = self._loaded.get(key)
            if loaded is not None and loaded.model.model.sha256 == reading.sha256:
                loaded.signature = signature
                return
            predictor = Predictor.of(reading, threads=self._threads, path=path)
        if (predictor.card.name, predictor.card.version) != key:
            # Where it lies is what it is asked by: a copy in another folder is another model.
            identity = {"name": name, "version": version}
            predictor.card = predictor.card.model_copy(update=identity)
        self._loaded[key] = _Loaded(Batcher(predictor, max_queue=self._max_queue), signature)

    def _state(self, key: Key, *, unloaded: bool) -> VersionState:
        version = key[1]
        loaded, refused = self._loaded.get(key), self._refused.get(key)
        if loaded is not None:
            now = (
                ""
                if refused is None
                else (
                    f"its file was overwritten, and is refused: {refused.reason}; what was loaded "
                    "before goes on answering"
                )
            )
            return VersionState(version, READY, now, loaded.model.model.sha256)
        if unloaded:
            reason = "unloaded by hand"
        elif refused is not None:
            reason = refused.reason
        elif key in self._changing:
            reason = "its file is being written"
        else:
            reason = f"not loaded: the version policy is {self.policy.text!r}"
            return VersionState(version, UNAVAILABLE, reason, by_policy=True)
        return VersionState(version, UNAVAILABLE, reason)
