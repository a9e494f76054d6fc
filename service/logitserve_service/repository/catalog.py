"""The live models: what is loaded, and which of them answers."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Self, TypeVar

from logitserve.inference.card import ModelCard
from logitserve.inference.errors import ModelFileError, ModelNotFoundError
from logitserve.inference.model_file import Signature
from logitserve.inference.repository import Key, default_model
from logitserve_service.config.settings import environment_name
from logitserve_service.errors import ModelUnavailableError, NotReadyError, StartError
from logitserve_service.execution.batcher import Batcher, Observer
from logitserve_service.repository.loader import (
    LOADING,
    READY,
    UNAVAILABLE,
    Loader,
    Model,
    VersionState,
)
from logitserve_service.repository.shared_state import Coordination, Wanted

Versions = dict[str, Batcher]

POLICY_SETTING = environment_name("version_policy")
Value = TypeVar("Value")

_NOTHING = Model()


class Catalog:
    """The models of a folder that are loaded and proven. Belongs to one event loop.

    A model is swapped whole, by `put`; who has found a version keeps it until its answer is there,
    and its memory goes with the last of them.
    """

    def __init__(self, loader: Loader, wanted: Wanted, files: Mapping[Key, Signature]) -> None:
        """Begin with no model.

        Args:
            loader: of the models, and of those that come later.
            wanted: what was ordered by hand when the folder was looked at.
            files: what the folder held then.
        """
        self.loader = loader
        self.wanted = wanted
        self.files = files
        self.default = wanted.default
        self.models: Mapping[str, Versions] = MappingProxyType({})
        """What is loaded: versions of a model oldest first."""
        self.folder: Mapping[str, Model] = MappingProxyType({})
        """What lies in the folder, and how it is."""
        self._newest: Mapping[str | None, Batcher] = MappingProxyType({})
        self._observer_of: Callable[[ModelCard], Observer] | None = None

    @classmethod
    def load(
        cls, loader: Loader, coordination: Coordination, *, default: str | None = None
    ) -> Self:
        """Load what the policy chooses of every model.

        The first process to do so settles the default model, and is strict: a service that cannot
        serve a model at all does not start. Workers, and those that replace them, serve what they
        can: what was broken while the service ran must not end it.

        Args:
            loader: of the models.
            coordination: with the other workers.
            default: the model that is asked when none is named; without it `digits` if present,
                else the only one, else none.

        Raises:
            NoModelsError: there are none.
            ModelFileError: of one of them there is no version that can be served.
            StartError: the default, or a pinned version, is not among them.
        """
        wanted = coordination.wanted()
        if wanted is not None:
            try:
                files = loader.repository.look().files
            except OSError:
                files = {}
            catalog = cls(loader, wanted, files)
            catalog._fill()
            return catalog
        names = loader.repository.names()
        if default is not None and default not in names:
            raise StartError(
                f"the default model {default!r} is not in {loader.repository.root}; "
                f"there is {', '.join(names)} (--default-model, LOGITSERVE_DEFAULT_MODEL)"
            )
        wanted = Wanted(default=default or default_model(names))
        catalog = cls(loader, wanted, loader.repository.look().files)
        _check_pins(catalog)
        catalog._fill()
        for name in catalog.folder:
            _check_served(catalog, name)
        coordination.begin(wanted)
        return catalog

    def _fill(self) -> None:
        for name in dict.fromkeys(name for name, _ in self.files):
            files = {key[1]: value for key, value in self.files.items() if key[0] == name}
            unloaded = name in self.wanted.unloaded
            self.put(name, self.loader.refresh(name, files, unloaded=unloaded))

    @property
    def ready(self) -> bool:
        """Whether there is a model to answer with."""
        return bool(self.models)

    def observe(self, observer_of: Callable[[ModelCard], Observer]) -> None:
        """Let somebody count what each version of each model does, also of those that come."""
        self._observer_of = observer_of
        for versions in self.models.values():
            for model in versions.values():
                model.observer = observer_of(model.card)

    def put(self, name: str, model: Model) -> None:
        """Let a model be served like this from now on, in place of how it was."""
        if self._observer_of is not None:
            for version in model.versions.values():
                if version.observer is None:
                    version.observer = self._observer_of(version.card)
        self.folder = _with(self.folder, name, model if model.states else None)
        self.models = _with(self.models, name, model.versions or None)
        newest: dict[str | None, Batcher] = {
            name: next(reversed(versions.values())) for name, versions in self.models.items()
        }
        if self.default in newest:
            newest[None] = newest[self.default]
        self._newest = MappingProxyType(newest)

    def index(self, *, only_ready: bool = False) -> list[tuple[str, VersionState]]:
        """Every version in the folder with the name of its model; or those that answer."""
        return [
            (name, state)
            for name, model in self.folder.items()
            for state in model.states.values()
            if state.state == READY or not only_ready
        ]

    def show_loading(self, name: str, versions: list[str]) -> None:
        """Let the states of these versions of a model say that they are being loaded."""
        model = self.folder.get(name, _NOTHING)
        loading = {
            version: VersionState(version, LOADING)
            for version in versions
            if version not in model.versions
        }
        if loading:
            states = dict(
                sorted({**model.states, **loading}.items(), key=lambda item: int(item[0]))
            )
            shown = Model(model.versions, states, model.unloaded)
            self.folder = _with(self.folder, name, shown)

    def find(self, name: str | None = None, version: str | None = None) -> Batcher:
        """The model to ask: the default if none is named, the latest version if none is named.

        Raises:
            NotReadyError: nothing is loaded.
            ModelNotFoundError: there is no such model or version, or it is not to be loaded.
            ModelUnavailableError: it is there, but refused.
        """
        if version is None:
            model = self._newest.get(name)
            if model is not None:
                return model
        return self._find(name, version)

    def _find(self, name: str | None, version: str | None) -> Batcher:
        """What is not the newest version of a model, or why there is none."""
        if name is None:
            name = self.default
        if name is None and self.ready:
            raise ModelNotFoundError(
                f"there is no default model; name one of {', '.join(self.models)} in the path "
                "(setting LOGITSERVE_DEFAULT_MODEL)"
            )
        known = None if name is None else self.folder.get(name)
        if name is None or known is None:
            if not self.ready:
                raise NotReadyError("no model is loaded")
            raise ModelNotFoundError(f"no model {name!r}; there is {', '.join(self.models)}")
        if known.unloaded:
            raise ModelNotFoundError(
                f"model {name!r} is unloaded; POST /v2/repository/models/{name}/load loads it"
            )
        if version is None:
            raise ModelUnavailableError(_why_none(name, known, self.loader))
        if version not in known.versions:
            raise _absence(name, version, known)
        return known.versions[version]


def _why_none(name: str, model: Model, loader: Loader) -> str:
    candidates = loader.policy.candidates(name, list(model.states))
    if not candidates:
        return (
            f"no version of model {name!r} is loaded: the version policy is "
            f"{loader.policy.text!r}, and there is {', '.join(model.states)} "
            f"(setting {POLICY_SETTING})"
        )
    state = model.states[candidates[-1]]
    reason = state.reason or "it is being loaded"
    return f"no version of model {name!r} can be served; version {state.version}: {reason}"


def _absence(name: str, version: str, model: Model) -> Exception:
    """Why a version is not there to be asked."""
    served = ", ".join(model.versions) or "none"
    state = model.states.get(version)
    if state is None:
        return ModelNotFoundError(f"no version {version!r} of model {name!r}; there is {served}")
    if state.state == UNAVAILABLE and state.by_policy:
        return ModelNotFoundError(
            f"version {version!r} of model {name!r} is {state.reason} (setting {POLICY_SETTING}); "
            f"there is {served}"
        )
    reason = state.reason or "it is being loaded"
    return ModelUnavailableError(
        f"version {version!r} of model {name!r} cannot be served: {reason}; there is {served}"
    )


def _check_pins(catalog: Catalog) -> None:
    for name, pinned in catalog.loader.policy.pins.items():
        there = [key[1] for key in catalog.files if key[0] == name]
        if absent := pinned - set(there):
            raise StartError(
                f"version {', '.join(sorted(absent, key=int))} of model {name!r} is pinned, but "
                f"there is {', '.join(there) or 'no such model'} "
                f"(--version-policy, {POLICY_SETTING})"
            )


def _check_served(catalog: Catalog, name: str) -> None:
    """Stop a start that would leave a model, or a pinned version, out."""
    states = catalog.folder[name].states.values()
    pinned = catalog.loader.policy.pins.get(name, frozenset())
    if catalog.models.get(name) and all(
        state.state == READY for state in states if state.version in pinned
    ):
        return
    refused = [state for state in states if state.state != READY and not state.by_policy]
    path = catalog.loader.repository.path(name, refused[-1].version)
    raise ModelFileError(f"{path}: {refused[-1].reason}")


def _with(mapping: Mapping[str, Value], name: str, value: Value | None) -> Mapping[str, Value]:
    """The same mapping with another value for a name, or without it; sorted."""
    changed = {**mapping, name: value}
    return MappingProxyType(
        {name: kept for name, kept in sorted(changed.items()) if kept is not None}
    )
