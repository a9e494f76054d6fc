"""What every section of the page is made of: numbers, tables and figures."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

_WORDS: Final = ("NaN", "∞", "−∞")

Floats = npt.NDArray[np.float64]
Numbers = dict[str, Any]
"""Finite JSON, but for `inf` and `nan`."""
Cell = Any
"""A word, a number, None, or a list of what each seed gave."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the page; the first column is text."""

    columns: Mapping[str, str]
    """Heading → format of its numbers."""
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class Lesson:
    """One section of the page."""

    tables: dict[str, Table] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    numbers: Numbers = field(default_factory=dict)
    """What its sentences quote."""

    def to_json(self) -> Numbers:
        """Its numbers, with the tables under `tables`."""
        tables = {
            name: {"columns": dict(table.columns), "rows": [list(row) for row in table.rows]}
            for name, table in self.tables.items()
        }
        document: Numbers = finite(self.numbers | {"tables": tables})
        return document


def render(numbers: Numbers, text: str) -> str:
    """Markdown: the text with the numbers of each lesson, as they are in `numbers.json`."""
    tables = {
        name: markdown(Table(**table))
        for lesson in numbers.values()
        for name, table in lesson.get("tables", {}).items()
    }
    return _Text().format(text, **numbers, tables=tables)


class _Text(Formatter):
    """Sentences have their numbers as tables do."""

    def format_field(self, value: Any, format_spec: str) -> str:
        return shown(value, format_spec)


def markdown(table: Table) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    formats = list(table.columns.values())
    lines = [[*table.columns], ["---", *["---:"] * (len(formats) - 1)]]
    lines += [[shown(*cell) for cell in zip(row, formats, strict=True)] for row in table.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shown(value: Cell, spec: str) -> str:
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
