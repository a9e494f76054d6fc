"""The model repository: `<root>/<name>/<version>/model.onnx`, each version with its `report/`.

Or the folder of one model, as KServe mounts it: `<root>/<version>/model.onnx`, `<root>/model.onnx`.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from logitserve.inference.card import ModelName, ModelVersion
from logitserve.inference.errors import ModelNotFoundError, NoModelsError, PublishError
from logitserve.inference.model_file import Signature

MODEL_FILE = "model.onnx"
REPORT_FOLDER = "report"
PREFERRED_DEFAULT = "digits"
REPORT_PAGE = "index.html"

_STAGING = ".staging-"
_STALE_SECONDS = 7 * 24 * 3600
"""Age of an abandoned draft; longer than any training writes to one."""

_NAME: TypeAdapter[str] = TypeAdapter(ModelName)
_VERSION: TypeAdapter[str] = TypeAdapter(ModelVersion)


_NO_NAME = (
    "is not a model name: use lower-case letters, digits, '.', '_' and '-', 63 at most, starting "
    "with a letter or digit"
)
_NO_VERSION = "is not a version: use a whole number without leading zeros, 18 digits at most"
_SHOWN = 3
"""Number of files listed in a message."""


def listed(passed_over: Mapping[tuple[str, str], str]) -> str:
    """Return one line about ignored model files; empty if there are none."""
    lines = [f"{name}/{version} ({why})" for (name, version), why in passed_over.items()]
    more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return f"passed over: {'; '.join(lines[:_SHOWN])}{more}" if lines else ""


def _text(name: str) -> str:
    """Return a file's name as text; undecodable bytes are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


MAKE_ONE = "make a model with `logitserve train` or `logitserve adopt`"


def default_model(names: Sequence[str]) -> str | None:
    """Return the default model: `digits` if present, else the only one."""
    if PREFERRED_DEFAULT in names:
        return PREFERRED_DEFAULT
    return names[0] if len(names) == 1 else None


@dataclass(frozen=True, slots=True)
class Draft:
    """A version being written: write into `folder`; it is renamed to `version` when complete."""

    folder: Path
    version: str


Key = tuple[str, str]
"""Name and version of a model."""


@dataclass(frozen=True, slots=True)
class Look:
    """The state of the folder at one time."""

    files: Mapping[Key, Signature]
    """Signature of each model file; models sorted by name, versions oldest first."""
    unreadable: Mapping[str, str]
    """Models whose folders cannot be read, with the reason."""
    passed_over: Mapping[Key, str]
    """Ignored model files, with the reason; the version is empty beside the versions."""


class ModelRepository:
    """Finds the models of a folder, and publishes versions atomically."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Return the models that have at least one version, sorted.

        Raises:
            NoModelsError: the folder is missing or has no models.
        """
        if not self.root.is_dir():
            raise NoModelsError(
                f"the folder of models {self.root.absolute()} does not exist; name another with "
                f"--models, or {MAKE_ONE}"
            )
        names = sorted(name for name in self._candidates() if self._versions(name))
        if not names:
            passed_over = listed(self.look().passed_over)
            raise NoModelsError(
                f"no models in {self.root}: expected {self._expected()}; {passed_over or MAKE_ONE}"
            )
        return names

    def look(self) -> Look:
        """Scan the folder with `stat` only; no file is opened.

        Raises:
            OSError: the folder is missing or cannot be read.
        """
        found: dict[Key, Signature] = {}
        unreadable: dict[str, str] = {}
        passed_over: dict[Key, str] = {}
        for name in sorted(self._candidates()):
            try:
                versions, others = self._entries(name)
                for version, why in others.items():
                    passed_over[_text(name), _text(version)] = why
                for version in versions:
                    status = self.path(name, version).stat()
                    found[name, version] = Signature.of(status)
            except FileNotFoundError:
                continue  # removed during the scan
            except OSError as error:
                if _is_valid(_NAME, name):
                    unreadable[name] = error.strerror or type(error).__name__
        return Look(found, unreadable, passed_over)

    def path(self, name: str, version: str) -> Path:
        """Return the path of a version's ONNX file, which may not exist."""
        return self.folder(name) / version / MODEL_FILE

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model, oldest first.

        Raises:
            ModelNotFoundError: the model does not exist.
        """
        versions = self._versions(name)
        if not versions:
            raise ModelNotFoundError(f"no model {name!r} in {self.root}")
        return versions

    def model_file(self, name: str, version: str | None = None) -> Path:
        """Return the ONNX file of a version; the latest by default.

        Raises:
            ModelNotFoundError: the model or version does not exist.
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
        """Publish the next version of a model atomically.

        The draft is a folder beside the versions, on the same file system. It is renamed to the
        version when the block ends; if the block raises, nothing is published.

        Raises:
            PublishError: the name is invalid, the folder is not writable, no `model.onnx` was
                written, or another process published the same version.
        """
        if not _is_valid(_NAME, name):
            raise PublishError(f"{name!r} {_NO_NAME}")
        version = str(max(map(int, self._versions(name)), default=0) + 1)
        parent = self.folder(name)
        try:
            parent.mkdir(parents=True, exist_ok=True)
            _sweep(parent)
            folder = Path(tempfile.mkdtemp(prefix=f"{_STAGING}{version}-", dir=parent))
        except OSError as error:
            raise PublishError(f"cannot write to {parent}: {error.strerror}") from error
        try:
            yield Draft(folder, version)
            _settle(folder, parent / version)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if not any(parent.iterdir()):
                parent.rmdir()

    def _candidates(self) -> list[str]:
        """Return possible model names, from one listing of the root."""
        return [entry.name for entry in self.root.iterdir()]

    def _expected(self) -> str:
        return f"<name>/<version>/{MODEL_FILE}"

    def folder(self, name: str) -> Path:
        """Return the folder of a model's versions."""
        return self.root / name

    def _versions(self, name: str) -> list[str]:
        """Return the versions of a model, oldest first; empty if it is not a model."""
        return self._entries(name)[0]

    def _entries(self, name: str) -> tuple[list[str], dict[str, str]]:
        """Return the versions of a model, oldest first, and ignored entries with the reason."""
        folder = self.folder(name)
        if not folder.is_dir():
            is_alone = name == MODEL_FILE and folder.is_file()
            return [], {"": "a folder of one model needs --model-name"} if is_alone else {}
        why = "" if _is_valid(_NAME, name) else f"{name!r} {_NO_NAME}"
        found: list[str] = []
        others: dict[str, str] = {}
        for entry in () if name.startswith(".") else folder.iterdir():
            if entry.name == MODEL_FILE:
                others[""] = why or f"expected {name}/<version>/{MODEL_FILE}"
            elif entry.name.startswith("."):
                continue
            elif (entry / MODEL_FILE).is_file():  # raises OSError if the folder cannot be read
                if _is_valid(_VERSION, entry.name) and not why:
                    found.append(entry.name)
                else:
                    others[entry.name] = why or f"{entry.name!r} {_NO_VERSION}"
            elif os.path.lexists(entry / MODEL_FILE):
                others[entry.name] = f"{MODEL_FILE} is not a file, or is a broken link"
        return sorted(found, key=int), others


class OneModelRepository(ModelRepository):
    """A folder with the versions of one model, whose name is given.

    `<root>/<version>/model.onnx`; `<root>/model.onnx` is version 1 unless there is a `1/`.
    """

    def __init__(self, root: Path, name: str) -> None:
        super().__init__(root)
        self._name = name

    def path(self, name: str, version: str) -> Path:
        """Return the path of a version's ONNX file, which may not exist."""
        in_folder = super().path(name, version)
        alone = self.root / MODEL_FILE
        return alone if version == "1" and alone.is_file() and not in_folder.exists() else in_folder

    def _candidates(self) -> list[str]:
        next(self.root.iterdir(), None)  # raises OSError if the folder is missing
        return [self._name]

    def _expected(self) -> str:
        return f"<version>/{MODEL_FILE} or {MODEL_FILE} of the one model {self._name!r}"

    def folder(self, name: str) -> Path:
        """Return the root."""
        del name
        return self.root

    def _entries(self, name: str) -> tuple[list[str], dict[str, str]]:
        if name != self._name:
            return [], {}
        found, others = super()._entries(name)
        if others.pop("", "") and "1" not in found:
            found = ["1", *found]
        return found, others


def _sweep(parent: Path) -> None:
    """Remove abandoned drafts of processes killed long ago."""
    for folder in parent.glob(f"{_STAGING}*"):
        newest = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
        if time.time() - newest > _STALE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _settle(folder: Path, target: Path) -> None:
    """Flush the draft to disk, then rename it to the version."""
    if not (folder / MODEL_FILE).is_file():
        raise PublishError(f"nothing to publish: the draft has no {MODEL_FILE}")
    folder.chmod(0o755)  # mkdtemp makes it private; other users must read models
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    try:
        folder.rename(target)  # fails if the target is not empty
    except OSError as error:
        raise PublishError(f"{target} was published by another process; publish again") from error


def _is_valid(adapter: TypeAdapter[str], text: str) -> bool:
    try:
        adapter.validate_python(text)
    except ValidationError:
        return False
    return True
