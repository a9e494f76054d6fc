"""The live models: what is loaded, and which of them answers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Self

from inference.errors import ModelNotFoundError
from inference.predictor import Predictor
from inference.repository import ModelRepository, default_model
from service.batcher import Batcher
from service.errors import NotReadyError, StartError

Versions = dict[str, Batcher]


class Catalog:
    """The models of a repository, loaded and proven; versions of a model oldest first."""

    def __init__(self, models: Mapping[str, Versions], default: str | None) -> None:
        self.models = MappingProxyType(dict(models))
        self.default = default

    @classmethod
    def load(
        cls,
        repository: ModelRepository,
        *,
        default: str | None = None,
        threads: int = 1,
        max_queue: int = 2048,
    ) -> Self:
        """Load every version of every model.

        Args:
            repository: where they are.
            default: the model that is asked when none is named; without it `digits` if present,
                else the only one, else none.
            threads: threads of one run of a model.
            max_queue: pictures that may wait for one model.

        Raises:
            NoModelsError: there are none.
            ModelFileError: one of them must not be served.
            StartError: the default is not among them.
        """
        names = repository.names()
        if default is not None and default not in names:
            raise StartError(
                f"the default model {default!r} is not in {repository.root}; "
                f"there is {', '.join(names)} (--default-model, LOGITSERVE_DEFAULT_MODEL)"
            )
        models = {
            name: {
                version: Batcher(
                    Predictor.load(repository.model_file(name, version), threads=threads),
                    max_queue=max_queue,
                )
                for version in repository.versions(name)
            }
            for name in names
        }
        return cls(models, default or default_model(names))

    @property
    def ready(self) -> bool:
        """Whether there is a model to answer with."""
        return bool(self.models)

    @property
    def _names(self) -> str:
        return ", ".join(self.models)

    def find(self, name: str | None = None, version: str | None = None) -> Batcher:
        """The model to ask: the default if none is named, the latest version if none is named.

        Raises:
            NotReadyError: nothing is loaded.
            ModelNotFoundError: it is not among the loaded ones; the message names those.
        """
        if not self.ready:
            raise NotReadyError("no model is loaded")
        if name is None:
            if self.default is None:
                raise ModelNotFoundError(
                    f"there is no default model; name one of {self._names} in the path "
                    "(setting LOGITSERVE_DEFAULT_MODEL)"
                )
            name = self.default
        versions = self.models.get(name)
        if versions is None:
            raise ModelNotFoundError(f"no model {name!r}; there is {self._names}")
        if version is None:
            return next(reversed(versions.values()))
        if version not in versions:
            raise ModelNotFoundError(
                f"no version {version!r} of model {name!r}; there is {', '.join(versions)}"
            )
        return versions[version]
