"""Error texts for names that do not exist; each suggests the closest one that does."""

import difflib
from collections.abc import Iterable

LONGEST_NAME = 64
"""Maximum number of characters of a misspelled name to compare and show."""


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most similar to a misspelled one, or None if none is similar."""
    return next(iter(difflib.get_close_matches(name, list(known), 1)), None)


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the error text for an unknown `kind` of name; it suggests the closest."""
    names, name = sorted(known), name[:LONGEST_NAME]
    match = closest(name, names)
    suggestion = "" if match is None else f"; did you mean {match!r}?"
    return f"unknown {kind} {name!r}{suggestion} (known: {', '.join(names) or 'none'})"


def absent(kind: str, name: str, there: Iterable[str], where: str = "") -> str:
    """Return the error text for a missing item, e.g. a `model`; it suggests the closest name."""
    names, name = list(there), name[:LONGEST_NAME]
    match = closest(name, names)
    suggestion = ";" if match is None else f"; did you mean {match!r}?"
    return f"no {kind} {name!r}{where}{suggestion} there is {', '.join(names) or 'none'}"
