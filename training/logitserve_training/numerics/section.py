"""A section of the page: numbers, table rows and figures."""

import math
import statistics
from collections.abc import Sequence
from string import Formatter
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

_WORDS: Final = ("NaN", "∞", "−∞")

Floats = npt.NDArray[np.float64]
Numbers = dict[str, Any]
"""Numbers and table rows of a section: finite JSON, except `inf` and `nan`."""
Rows = list[list[Any]]
"""Rows of a table. A cell is a text (as the first always is), a number, None, or a list with one
value per seed."""


class Section(NamedTuple):
    """One section of the page."""

    numbers: Numbers
    figures: dict[str, Figure]


def render(numbers: Numbers, text: str) -> str:
    """Fill the numbers of each lesson, as in `numbers.json`, into Markdown text."""
    return _Text().format(text, **numbers)


class _Text(Formatter):
    """Formats numbers with `shown`, and rows as a Markdown table.

    The format of a table has one entry per column, separated by spaces; the last one is repeated.
    """

    def format_field(self, value: Any, format_spec: str) -> str:
        if not (isinstance(value, list) and isinstance(value[0], list)):
            return shown(value, format_spec)
        formats = format_spec.split(" ")
        formats += formats[-1:] * len(value[0])
        rows = [[row[0], *map(shown, row[1:], formats)] for row in value]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def shown(value: Any, spec: str) -> str:
    """Format a number, several as mean ± standard deviation; texts are unchanged."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        words = dict.fromkeys(shown(one, spec) for one in value if one in _WORDS)
        if words or len(value) == 1:
            return ", ".join(words) or shown(value[0], spec)
        mean, deviation = statistics.fmean(value), statistics.stdev(value)
        return f"{shown(mean, spec).removesuffix(' %')} ± {shown(deviation, spec)}"
    text = format(value, spec).replace("%", " %")
    return text if "e" in text else text.replace("-", "−")


def finite(value: Any) -> Any:
    """Convert to plain JSON; non-finite numbers become texts."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [finite(entry) for entry in value]
    if isinstance(value, np.generic):
        return finite(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    return value
