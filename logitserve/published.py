"""Which model file is meant, and what is in the folder of models."""

from pathlib import Path

from logitserve.errors import ModelNotNamedError
from logitserve.inference.errors import ModelNotFoundError
from logitserve.inference.naming import absent
from logitserve.inference.repository import ModelRepository, default_model


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
        default = default_model(names)
        if default is None:
            raise ModelNotNamedError(
                f"there are several models in {models}; choose one with --model: {', '.join(names)}"
            )
        return repository.model_file(default)
    name, slash, version = wanted.partition("/")
    if name not in names:
        raise ModelNotFoundError(absent("model", name, names, f" in {models}"))
    return repository.model_file(name, version if slash else None)
