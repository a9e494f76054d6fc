"""Scans of the model repository, and the changes between them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from logitserve.inference import rollout
from logitserve.inference.errors import RolloutError
from logitserve.inference.model_file import Signature as FileStat
from logitserve.inference.repository import Key, ModelRepository
from logitserve.inference.rollout import Rollout
from logitserve_service.repository.file_store import StoredFile

VersionFiles = Mapping[str, FileStat]
"""Version → its file; oldest version first."""
Files = Mapping[str, VersionFiles]
"""Name of the model → files of its versions."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One scan of the repository."""

    files: Files
    unreadable: Mapping[str, str]  # model → reason
    passed_over: Mapping[Key, str]  # misplaced model files, and why they are ignored
    rollouts: Mapping[str, Rollout] = field(
        default_factory=dict
    )  # by model, if it has a rollout file
    broken_rollouts: Mapping[str, str] = field(
        default_factory=dict
    )  # model → error in its rollout file


def scan(repository: ModelRepository) -> Snapshot:
    """Scan the repository with `stat`; raises OSError if the folder cannot be read."""
    look = repository.look()
    files = _grouped((*key, file) for key, file in look.files.items())
    rollouts: dict[str, Rollout] = {}
    broken: dict[str, str] = {}
    for name in files:
        try:
            rollouts[name] = rollout.read(repository.folder(name))
        except RolloutError as error:
            broken[name] = str(error)
    return Snapshot(files, look.unreadable, look.passed_over, rollouts, broken)


def files_of(kept: Iterable[StoredFile]) -> Files:
    """Return the stored files by model and version."""
    return _grouped(sorted(((each.name, each.version, each.file) for each in kept), key=_number))


def _number(found: tuple[str, str, FileStat]) -> int:
    return int(found[1])


def _grouped(found: Iterable[tuple[str, str, FileStat]]) -> Files:
    files: dict[str, dict[str, FileStat]] = {}
    for name, version, file in found:
        files.setdefault(name, {})[version] = file
    return files


def settled(accepted: Files, before: Files, now: Files) -> Files:
    """Return the accepted files with the changes on which the last two scans agree.

    A file that is being copied is ignored until it stops growing; a file that is missing between
    two renames is retained.
    """
    settled = {
        name: _settled(accepted.get(name, {}), before.get(name, {}), now.get(name, {}))
        for name in sorted({**accepted, **now})
    }
    return {name: versions for name, versions in settled.items() if versions}


def _settled(accepted: VersionFiles, before: VersionFiles, now: VersionFiles) -> VersionFiles:
    found = {}
    for version in sorted({**accepted, **now}, key=int):
        agreed = before.get(version) == now.get(version)
        file = (now if agreed else accepted).get(version)
        if file is not None:
            found[version] = file
    return found


def changed(old: Files, new: Files) -> set[str]:
    """Return the models whose files differ."""
    return {name for name in {**old, **new} if old.get(name) != new.get(name)}
