"""The folder of models: `<root>/<name>/<version>/model.onnx`, each version with its `report/`."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from inference.card import ModelName, ModelVersion
from inference.errors import ModelNotFoundError, NoModelsError, PublishError
from inference.reading import Signature

MODEL_FILE = "model.onnx"
REPORT_FOLDER = "report"
PREFERRED_DEFAULT = "digits"
REPORT_PAGE = "index.html"

_NAME: TypeAdapter[str] = TypeAdapter(ModelName)
_VERSION: TypeAdapter[str] = TypeAdapter(ModelVersion)


def default_model(names: Sequence[str]) -> str | None:
    """The model that is asked when none is named: `digits` if present, else the only one."""
    if PREFERRED_DEFAULT in names:
        return PREFERRED_DEFAULT
    return names[0] if len(names) == 1 else None


@dataclass(frozen=True, slots=True)
class Draft:
    """A version on its way: write into `folder`; it appears under `version` when whole."""

    folder: Path
    version: str


Key = tuple[str, str]
"""Name and version of a model."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the folder saw."""

    files: Mapping[Key, Signature]
    """Models by their names, versions oldest first."""
    unreadable: Mapping[str, str]
    """Models whose folders could not be looked into, and why."""


class ModelRepository:
    """Finds the models of a folder, and adds versions so that each appears whole or not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """The models that have at least one version, sorted.

        Raises:
            NoModelsError: the folder is missing or has none.
        """
        if not self.root.is_dir():
            raise NoModelsError(f"the folder of models {self.root} does not exist")
        names = sorted(entry.name for entry in self.root.iterdir() if self._versions(entry.name))
        if not names:
            raise NoModelsError(
                f"no models in {self.root}: expected <name>/<version>/{MODEL_FILE}; "
                "make one with `logitserve train`"
            )
        return names

    def look(self) -> Look:
        """What lies in the folder now, by `stat` alone; no file is opened.

        Raises:
            OSError: the folder is missing or cannot be read.
        """
        found: dict[Key, Signature] = {}
        unreadable: dict[str, str] = {}
        for entry in sorted(self.root.iterdir()):
            if not _is_valid(_NAME, entry.name):
                continue
            try:
                for version in self._versions(entry.name):
                    status = self.path(entry.name, version).stat()
                    found[entry.name, version] = Signature.of(status)
            except FileNotFoundError:
                continue  # removed while we looked
            except OSError as error:
                unreadable[entry.name] = error.strerror or type(error).__name__
        return Look(found, unreadable)

    def path(self, name: str, version: str) -> Path:
        """Where the ONNX file of a version lies, whether it is there or not."""
        return self.root / name / version / MODEL_FILE

    def versions(self, name: str) -> list[str]:
        """The versions of a model, oldest first.

        Raises:
            ModelNotFoundError: there is no such model.
        """
        versions = self._versions(name)
        if not versions:
            raise ModelNotFoundError(f"no model {name!r} in {self.root}")
        return versions

    def model_file(self, name: str, version: str | None = None) -> Path:
        """The ONNX file of a version, the latest if none is named.

        Raises:
            ModelNotFoundError: there is no such model or version.
        """
        versions = self.versions(name)
        version = versions[-1] if version is None else version
        if version not in versions:
            raise ModelNotFoundError(
                f"no version {version!r} of model {name!r}; there is {', '.join(versions)}"
            )
        return self.path(name, version)

    @contextmanager
    def publication(self, name: str) -> Iterator[Draft]:
        """Publish the next version of a model, whole or not at all.

        The draft's folder lies beside the versions, on the same file system, and becomes the
        version by one rename when the block ends; if the block raises, nothing is published.

        Raises:
            PublishError: the name is not one, the folder is not writable, no `model.onnx` was
                written, or somebody else published the same version meanwhile.
        """
        if not _is_valid(_NAME, name):
            raise PublishError(
                f"{name!r} is not a model name: use lower-case letters, digits, '.', '_' and '-', "
                "63 at most, starting with a letter or digit"
            )
        version = str(max(map(int, self._versions(name)), default=0) + 1)
        parent = self.root / name
        try:
            parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f".staging-{version}-", dir=parent))
        except OSError as error:
            raise PublishError(f"cannot write to {parent}: {error.strerror}") from error
        try:
            yield Draft(folder, version)
            _settle(folder, parent / version)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if not any(parent.iterdir()):
                parent.rmdir()

    def _versions(self, name: str) -> list[str]:
        folder = self.root / name
        if not (_is_valid(_NAME, name) and folder.is_dir()):
            return []
        found = (
            entry.name
            for entry in folder.iterdir()
            if _is_valid(_VERSION, entry.name) and (entry / MODEL_FILE).is_file()
        )
        return sorted(found, key=int)


def _settle(folder: Path, target: Path) -> None:
    """Make the draft durable, then make it the version."""
    if not (folder / MODEL_FILE).is_file():
        raise PublishError(f"nothing to publish: the draft has no {MODEL_FILE}")
    folder.chmod(0o755)  # mkdtemp made it private; models are for others to read
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    try:
        folder.rename(target)  # fails on a folder that has something in it
    except OSError as error:
        raise PublishError(f"{target} was published meanwhile; publish again") from error


def _is_valid(adapter: TypeAdapter[str], text: str) -> bool:
    try:
        adapter.validate_python(text)
    except ValidationError:
        return False
    return True
