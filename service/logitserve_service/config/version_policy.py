"""The version policy: it selects the versions of a model to load."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

LATEST, ALL = "latest", "all"

_PIN = re.compile(r"(?P<name>[a-z0-9][a-z0-9._-]{0,62})=(?P<versions>[1-9]\d*(?:,[1-9]\d*)*)")


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Selects `latest` or `all` versions; of a pinned model, exactly the pinned versions."""

    text: str = LATEST
    every: bool = False
    pins: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `latest`, `all` and pins `<name>=<version>[,<version>…]`, separated by spaces."""
        every = False
        pins = {}
        for word in text.split():
            if word in (LATEST, ALL):
                every = word == ALL
            elif pin := _PIN.fullmatch(word):
                pins[pin["name"]] = frozenset(pin["versions"].split(","))
            else:
                raise ValueError(
                    f"{word!r} is neither '{LATEST}' nor '{ALL}' nor a pin such as digits=2 or "
                    "digits=1,3 (several are separated by spaces)"
                )
        return cls(" ".join(text.split()) or LATEST, every, MappingProxyType(pins))

    def candidates(self, name: str, versions: Sequence[str]) -> list[str]:
        """Return the versions of a model that may be loaded; versions are ordered oldest first."""
        pinned = self.pins.get(name)
        return [version for version in versions if pinned is None or version in pinned]

    def chosen(self, name: str, usable: Sequence[str]) -> list[str]:
        """Return the versions of a model to load, out of the usable ones, oldest first."""
        candidates = self.candidates(name, usable)
        return candidates if self.every or name in self.pins else candidates[-1:]
