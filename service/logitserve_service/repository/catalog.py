"""The loaded models, and the look-up of the model of a request."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Self, TypeVar

from logitserve.inference.errors import ModelFileError, ModelNotFoundError
from logitserve.inference.naming import absent
from logitserve.inference.repository import Key, default_model
from logitserve.inference.rollout import ROLLOUT_FILE, Rollout
from logitserve_service.config.settings import environment_name
from logitserve_service.errors import ModelUnavailableError, NotReadyError, StartError
from logitserve_service.repository.canary import Canary
from logitserve_service.repository.loaded_model import (
    LOADING,
    READY,
    UNAVAILABLE,
    LoadedModel,
    ModelEntry,
    VersionState,
)
from logitserve_service.repository.loader import Loader
from logitserve_service.repository.shadows import Shadows
from logitserve_service.repository.shared_state import DesiredState
from logitserve_service.repository.snapshot import Files, Snapshot, files_of, scan

POLICY_SETTING = environment_name("version_policy")
NO_ROLLOUT = Rollout()
RequestHeaders = Mapping[bytes, bytes]
Value = TypeVar("Value")


class Catalog:
    """The loaded and verified models of a repository. Belongs to one event loop.

    `put` replaces a model as a whole. A request keeps its version until it is answered.
    """

    def __init__(
        self,
        loader: Loader,
        desired: DesiredState,
        files: Files,
        passed_over: Mapping[Key, str] = MappingProxyType({}),
        rollouts: Mapping[str, Rollout] = MappingProxyType({}),
    ) -> None:
        """Load the versions that the policy selects, except of unloaded models."""
        self.loader = loader
        self.desired = desired
        self.files = files
        self.passed_over = passed_over  # misplaced model files, and why they are ignored
        self.default = desired.default
        self.models: Mapping[str, dict[str, LoadedModel]] = MappingProxyType({})  # oldest first
        self.folder: Mapping[str, ModelEntry] = MappingProxyType(
            {}
        )  # all models of the folder, loaded or not
        self.rollouts: Mapping[str, Rollout] = MappingProxyType({})  # in force
        self.live: Mapping[str, LoadedModel] = MappingProxyType({})
        """The live version of each model, which answers if the request names no version."""
        self.canaries: Mapping[str, Canary] = MappingProxyType({})
        self._shadows = Shadows(loader.count_shadow)
        for name, versions in files.items():
            rollout = rollouts.get(name, NO_ROLLOUT)
            is_unloaded = name in desired.unloaded
            entry = loader.refresh(name, versions, named=rollout.versions, unloaded=is_unloaded)
            self.put(name, entry, rollout)

    @classmethod
    def load(cls, loader: Loader, *, default: str | None = None) -> Self:
        """Load the models.

        The first worker decides the default model (if None: `digits`, else the only model, else
        none), and fails unless it can serve every model. Later workers load what the others serve,
        from the same bytes, so a file that was damaged since has no effect. The watcher loads the
        rest.
        """
        shared = loader.shared
        desired = shared.desired()
        if desired is not None:
            try:
                found = scan(loader.repository)
            except OSError:
                found = Snapshot({}, {}, {})
            files = {**found.files, **files_of(shared.kept())}
            return cls(loader, desired, files, found.passed_over, shared.rollouts())
        names = loader.repository.names()
        if default is not None and default not in names:
            raise StartError(
                f"{absent('model', default, names)} in {loader.repository.root} "
                "(--default-model, LOGITSERVE_DEFAULT_MODEL)"
            )
        desired = DesiredState(default=default or default_model(names))
        found = scan(loader.repository)
        for problem in found.broken_rollouts.values():
            raise StartError(problem)
        catalog = cls(loader, desired, found.files, found.passed_over, found.rollouts)
        catalog._check_complete()
        shared.initialize(desired)
        for name, rollout in catalog.rollouts.items():
            shared.roll_out(name, rollout)
        return catalog

    @property
    def ready(self) -> bool:
        """Whether any model is loaded."""
        return bool(self.models)

    def put(self, name: str, entry: ModelEntry, rollout: Rollout = NO_ROLLOUT) -> None:
        """Replace a model and its rollout; a model without versions is removed."""
        versions = entry.versions
        self.folder = _with(self.folder, name, entry if entry.states else None)
        self.models = _with(self.models, name, versions or None)
        self.rollouts = _with(self.rollouts, name, rollout if entry.states else None)
        live = versions.get(rollout.live or next(reversed(versions), ""))
        self.live = _with(self.live, name, live)
        canary = rollout.canary
        drawn = None if canary is None or live is None else versions.get(canary.version)
        chosen = None if canary is None or drawn is None else Canary(drawn, canary)
        self.canaries = _with(self.canaries, name, chosen)
        self._shadows.put(name, live, versions, rollout.shadow)

    def index(self, *, only_ready: bool = False) -> list[tuple[str, VersionState]]:
        """List model name and state of every version, or only of ready versions.

        Ignored files are included; their version is empty if the file is outside the version
        folders.
        """
        found = [
            (name, state)
            for name, entry in self.folder.items()
            for state in entry.states.values()
            if state.state == READY or not only_ready
        ]
        if not only_ready:
            for (name, version), why in self.passed_over.items():
                found.append((name, VersionState(version, UNAVAILABLE, f"passed over: {why}")))
        return found

    def show_loading(self, name: str, versions: list[str]) -> None:
        """Set the state of versions to LOADING, except of served versions."""
        entry = self.folder.get(name, ModelEntry())
        new = [key for key in versions if key not in entry.versions]
        if new:
            states = {**entry.states, **{key: VersionState(key, LOADING) for key in new}}
            ordered = {key: states[key] for key in sorted(states, key=int)}
            self.folder = _with(self.folder, name, replace(entry, states=ordered))

    def find(self, name: str | None = None, version: str | None = None) -> LoadedModel:
        """Look up a version; None means the default model, or the live version.

        Raises NotReadyError, ModelNotFoundError, or ModelUnavailableError if it is not loaded.
        """
        if name is None:
            name = self.default
        if version is None and name is not None:
            if (live := self.live.get(name)) is not None:
                return live
            version = self.rollouts.get(name, NO_ROLLOUT).live
        if name is not None and (entry := self.folder.get(name)) is not None:
            if version in entry.versions and not entry.unloaded:
                return entry.versions[version]
            raise self._missing(name, version, entry)
        if not self.ready:
            raise NotReadyError("no model is loaded")
        if name is None:
            raise ModelNotFoundError(
                f"there is no default model; name one of {', '.join(self.models)} in the path "
                "(setting LOGITSERVE_DEFAULT_MODEL)"
            )
        raise ModelNotFoundError(absent("model", name, self.models))

    def drawn(self, model: LoadedModel, request: RequestHeaders, request_id: bytes) -> LoadedModel:
        """Return the canary if it answers the request, else the live version."""
        canary = self.canaries.get(model.card.name)
        if canary is not None and canary.takes(request, request_id):
            return canary.model
        return model

    def _missing(self, name: str, version: str | None, entry: ModelEntry) -> Exception:
        """Return the error that explains why a version, or the whole model, cannot be served."""
        if entry.unloaded:
            return ModelNotFoundError(
                f"model {name!r} is unloaded; POST /v2/repository/models/{name}/load loads it"
            )
        policy = self.loader.policy
        if version is None:
            candidates = policy.candidates(name, list(entry.states))
            if not candidates:
                return ModelUnavailableError(
                    f"no version of model {name!r} is loaded: the version policy is "
                    f"{policy.text!r}, and there is {', '.join(entry.states)} "
                    f"(setting {POLICY_SETTING})"
                )
            version = candidates[-1]
        what = f"version {version!r} of model {name!r}"
        served = f"there is {', '.join(entry.versions) or 'none'}"
        state = entry.states.get(version)
        if state is None:
            return ModelNotFoundError(f"no {what}; {served}")
        if state.by_policy:
            return ModelNotFoundError(
                f"{what} is {state.reason} (setting {POLICY_SETTING}); {served}"
            )
        reason = state.reason or "it is being loaded"
        return ModelUnavailableError(f"{what} cannot be served: {reason}; {served}")

    def _check_complete(self) -> None:
        """Raise an error if a model, or a pinned version, cannot be loaded at start-up."""
        pins = self.loader.policy.pins
        for name in [*self.folder, *pins]:
            states = self.folder.get(name, ModelEntry()).states
            pinned = pins.get(name, frozenset())
            if missing := pinned - states.keys():
                raise StartError(
                    f"version {', '.join(sorted(missing, key=int))} of model {name!r} is pinned, "
                    f"but there is {', '.join(states) or 'no such model'} "
                    f"(--version-policy, {POLICY_SETTING})"
                )
            refused = [s for s in states.values() if s.state != READY and not s.by_policy]
            if name not in self.models or any(s.version in pinned for s in refused):
                path = self.loader.repository.path(name, refused[-1].version)
                raise ModelFileError(f"{path}: {refused[-1].reason}")
            live = self.rollouts.get(name, NO_ROLLOUT).live
            if name not in self.live:
                there = ", ".join(self.models[name])
                raise StartError(
                    f"version {live} of model {name!r} is live by its {ROLLOUT_FILE}, but there is "
                    f"{there}; `logitserve models promote {name} VERSION` names another"
                )


def _with(mapping: Mapping[str, Value], name: str, value: Value | None) -> Mapping[str, Value]:
    """Return a sorted copy with a new value for a name, or without the name."""
    changed = sorted({**mapping, name: value}.items())
    return MappingProxyType({name: kept for name, kept in changed if kept is not None})
