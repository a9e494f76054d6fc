"""What every section of the page is made of: its numbers, with the rows of tables, and figures."""

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
"""What a section quotes, the rows of its tables among it: finite JSON, but for `inf` and `nan`."""
Rows = list[list[Any]]
"""Of a table. A cell is a word, as the first always is, a number, None, or a list of what each seed
gave."""


class Lesson(NamedTuple):
    """One section of the page."""

    numbers: Numbers
    figures: dict[str, Figure]


def render(numbers: Numbers, text: str) -> str:
    """Markdown: the text with the numbers of each lesson, as they are in `numbers.json`."""
    return _Text().format(text, **numbers)


class _Text(Formatter):
    """Writes numbers as `shown` does, and the rows of a table as Markdown.

    A table has a format for each number of a row, with spaces between them; the last one serves
    for all that follow.
    """

    def format_field(self, value: Any, format_spec: str) -> str:
        if not (isinstance(value, list) and isinstance(value[0], list)):
            return shown(value, format_spec)
        formats = format_spec.split(" ")
        formats += formats[-1:] * len(value[0])
        rows = [[row[0], *map(shown, row[1:], formats)] for row in value]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def shown(value: Any, spec: str) -> str:
    """A number by its format, several as mean ± standard deviation, words as they are."""
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
    """The same as plain JSON, with words for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [finite(entry) for entry in value]
    if isinstance(value, np.generic):
        return finite(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    return value
