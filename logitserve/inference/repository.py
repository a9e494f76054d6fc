"""The folder of models: `<root>/<name>/<version>/model.onnx`, each version with its `report/`.

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
"""Longer than any training takes whose draft is still written to."""

_NAME: TypeAdapter[str] = TypeAdapter(ModelName)
_VERSION: TypeAdapter[str] = TypeAdapter(ModelVersion)


_NO_NAME = (
    "is not a model name: use lower-case letters, digits, '.', '_' and '-', 63 at most, starting "
    "with a letter or digit"
)
_NO_VERSION = "is not a version: use a whole number without leading zeros, 18 digits at most"
_SHOWN = 3
"""Files that a line names."""


def listed(passed_over: Mapping[tuple[str, str], str]) -> str:
    """Model files that are passed over, in one line; empty where there are none."""
    lines = [f"{name}/{version} ({why})" for (name, version), why in passed_over.items()]
    more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return f"passed over: {'; '.join(lines[:_SHOWN])}{more}" if lines else ""


def _text(name: str) -> str:
    """A file's name, which may be any bytes, as text that can be sent."""
    return name.encode("utf-8", "backslashreplace").decode()


MAKE_ONE = "make a model with `logitserve train` or `logitserve adopt`"


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
    passed_over: Mapping[Key, str]
    """Model files where none is looked for, and why; no version for those beside versions."""


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
        """What lies in the folder now, by `stat` alone; no file is opened.

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
                continue  # removed while we looked
            except OSError as error:
                if _is_valid(_NAME, name):
                    unreadable[name] = error.strerror or type(error).__name__
        return Look(found, unreadable, passed_over)

    def path(self, name: str, version: str) -> Path:
        """Where the ONNX file of a version lies, whether it is there or not."""
        return self.folder(name) / version / MODEL_FILE

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
                written, or something else published the same version meanwhile.
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
        """What may be a model, from one look at the root."""
        return [entry.name for entry in self.root.iterdir()]

    def _expected(self) -> str:
        return f"<name>/<version>/{MODEL_FILE}"

    def folder(self, name: str) -> Path:
        """Where the versions of a model lie."""
        return self.root / name

    def _versions(self, name: str) -> list[str]:
        """The versions of a model, oldest first; none where it is no model."""
        return self._entries(name)[0]

    def _entries(self, name: str) -> tuple[list[str], dict[str, str]]:
        """The versions of a model, oldest first, and what is passed over, with its reason."""
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
            elif (entry / MODEL_FILE).is_file():  # an OSError where the folder cannot be read
                if _is_valid(_VERSION, entry.name) and not why:
                    found.append(entry.name)
                else:
                    others[entry.name] = why or f"{entry.name!r} {_NO_VERSION}"
            elif os.path.lexists(entry / MODEL_FILE):
                others[entry.name] = f"{MODEL_FILE} is no file, or a link to nothing"
        return sorted(found, key=int), others


class OneModelRepository(ModelRepository):
    """A folder that is one model, which gets its name from outside.

    `<root>/<version>/model.onnx`; `<root>/model.onnx` is version 1 unless there is a `1/`.
    """

    def __init__(self, root: Path, name: str) -> None:
        super().__init__(root)
        self._name = name

    def path(self, name: str, version: str) -> Path:
        """Where the ONNX file of a version lies, whether it is there or not."""
        in_folder = super().path(name, version)
        alone = self.root / MODEL_FILE
        return alone if version == "1" and alone.is_file() and not in_folder.exists() else in_folder

    def _candidates(self) -> list[str]:
        next(self.root.iterdir(), None)  # an OSError where the folder is away, as of many models
        return [self._name]

    def _expected(self) -> str:
        return f"<version>/{MODEL_FILE} or {MODEL_FILE} of the one model {self._name!r}"

    def folder(self, name: str) -> Path:
        """The root."""
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
    """Remove what publications have left that were killed long ago."""
    for folder in parent.glob(f"{_STAGING}*"):
        newest = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
        if time.time() - newest > _STALE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


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
