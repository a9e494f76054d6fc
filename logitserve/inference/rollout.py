"""Live, canary and shadow versions of a model: `rollout.json` beside its versions.

Without the file the newest version is live. With it, the version named in `live` is live until the
file changes, even if a newer version is published.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from logitserve.inference.card import ModelVersion
from logitserve.inference.errors import RolloutError
from logitserve.inference.naming import unknown

ROLLOUT_FILE: Final = "rollout.json"
MAX_HISTORY: Final = 100
"""Number of changes in the history."""
NEWEST: Final = "newest"
"""Value of a version: the newest version is live."""

Percent = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
By = Annotated[
    str, StringConstraints(pattern=r"^(request|key|header:[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64})$")
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Canary(_Strict):
    """A version that answers a share of the requests that name no version."""

    version: ModelVersion
    percent: Percent
    by: By = "request"
    """Routing key: the id of the `request`, the `key`, or `header:NAME`. Requests with the same
    value are answered by the same version."""


class Shadow(_Strict):
    """A version that runs on a share of the answered batches, for comparison."""

    version: ModelVersion
    percent: Percent = 100


class Change(_Strict):
    """A change of a rollout: new state, time, and origin."""

    was_live: ModelVersion
    """The live version before the change."""

    at: datetime
    by: Literal["command", "request"]
    live: ModelVersion | None = None
    canary: Canary | None = None
    shadow: Shadow | None = None


class Rollout(_Strict):
    """Live, canary and shadow versions of a model."""

    live: ModelVersion | None = None
    """None: the newest version."""
    canary: Canary | None = None
    shadow: Shadow | None = None
    history: tuple[Change, ...] = ()
    """Oldest first; the last one is the current state."""

    @classmethod
    def read(cls, document: object) -> Self:
        """Validate a document; raises RolloutError."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            errors = error.errors(include_url=False)
            # A missing field may be a misspelled one.
            first = min(errors, key=lambda each: each["type"] != "extra_forbidden")
            where = ".".join(map(str, first["loc"]))
            if first["type"] == "extra_forbidden":
                parts: dict[str, type[BaseModel]] = {"canary": Canary, "shadow": Shadow}
                known = parts.get(str(first["loc"][0]), cls).model_fields
                raise RolloutError(unknown("member", str(first["loc"][-1]), known)) from error
            raise RolloutError(f"{where}: {first['msg']}; it is {first['input']!r}") from error

    @property
    def versions(self) -> frozenset[str]:
        """Return the versions that it names."""
        parts = (
            self.live,
            self.canary and self.canary.version,
            self.shadow and self.shadow.version,
        )
        return frozenset(version for version in parts if version)

    def changed(self, by: Literal["command", "request"], was_live: str, **members: Any) -> Self:
        """Return a rollout with changed fields and a new history entry.

        A canary or shadow that becomes live is removed as such.

        Args:
            by: origin of the change.
            was_live: the live version before the change.
            members: changed values of `live`, `canary`, `shadow`.

        Raises:
            RolloutError: a value is invalid, or one version has two roles.
        """
        ended = {
            name: None
            for name, part in (("canary", self.canary), ("shadow", self.shadow))
            if part is not None and part.version == members.get("live")
        }
        made = type(self).read({**self.model_dump(exclude={"history"}), **ended, **members})
        for name, part in (("canary", made.canary), ("shadow", made.shadow)):
            if part is not None and part.version == made.live:
                raise RolloutError(f"version {made.live} is live; another one can be the {name}")
        state = made.model_dump(exclude={"history"})
        change = Change(at=datetime.now(UTC), by=by, was_live=was_live, **state)
        return made.model_copy(update={"history": (*self.history, change)[-MAX_HISTORY:]})

    def before(self, versions: Sequence[str]) -> str:
        """Return the previously live version; without history, the next older one.

        Args:
            versions: existing versions, oldest first.

        Raises:
            RolloutError: there is none.
        """
        live = self.live or versions[-1]
        lived = [change.was_live for change in self.history]
        below = [version for version in versions if int(version) < int(live)]
        for version in [*reversed(lived), *reversed(below)]:
            if version != live and version in versions:
                return version
        raise RolloutError(f"no version was live before version {live}")


def read(folder: Path) -> Rollout:
    """Read the rollout of the model in a folder; empty if there is no file.

    Raises:
        RolloutError: the file cannot be read, or is invalid.
    """
    path = folder / ROLLOUT_FILE
    try:
        return Rollout.read(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return Rollout()
    except OSError as error:
        raise RolloutError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RolloutError(f"{path} is not JSON: {error}") from error
    except RolloutError as error:
        raise RolloutError(f"{path}: {error}") from error


def write(folder: Path, rollout: Rollout) -> None:
    """Write a rollout atomically; raises RolloutError."""
    try:
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".rollout-", delete=False) as file:
            file.write(rollout.model_dump_json(indent=2, exclude_none=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        made = Path(file.name)
        made.chmod(0o644)  # readable by other users
        made.replace(folder / ROLLOUT_FILE)
    except OSError as error:
        raise RolloutError(
            f"{folder / ROLLOUT_FILE} cannot be written: {error.strerror}; change it on the "
            "machine that publishes the models"
        ) from error


def check(rollout: Rollout, versions: Sequence[str]) -> None:
    """Check that the versions of a rollout exist; raises RolloutError."""
    for version in sorted(rollout.versions - set(versions), key=int):
        raise RolloutError(f"there is no version {version}; there is {', '.join(versions)}")
