"""Which model file is meant, and what is in the folder of models."""

from pathlib import Path

from inference.errors import ModelNotFoundError
from inference.repository import ModelRepository
from logitserve.errors import ModelNotNamedError

PREFERRED_DEFAULT = "digits"


def find(models: Path, wanted: str | None) -> Path:
    """The file of a model.

    Args:
        models: the folder of models.
        wanted: `name` for its latest version, or `name/version`; None for the default, which is
            `digits` if present, else the only one, as when serving.

    Raises:
        NoModelsError: the folder is missing or empty.
        ModelNotFoundError: there is no such model or version; it lists those that there are.
        ModelNotNamedError: there are several and none is the default.
    """
    repository = ModelRepository(models)
    names = repository.names()
    if wanted is None:
        if PREFERRED_DEFAULT not in names and len(names) > 1:
            raise ModelNotNamedError(
                f"there are several models in {models}; choose one with --model: {', '.join(names)}"
            )
        return repository.model_file(PREFERRED_DEFAULT if PREFERRED_DEFAULT in names else names[0])
    name, slash, version = wanted.partition("/")
    if name not in names:
        raise ModelNotFoundError(f"no model {name!r} in {models}; there is {', '.join(names)}")
    return repository.model_file(name, version if slash else None)
