"""Tables that the benchmarks print."""

from collections.abc import Sequence

Row = dict[str, str]


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown: the first column to the left, numbers to the right."""
    first, *others = rows[0]
    lines = [" | ".join((first, *others)), "---|" + "|".join("---:" for _ in others)]
    lines += [" | ".join(row.values()) for row in rows]
    return (
        "".join(f"| {line} |\n" for line in lines).replace("| ---|", "|---|").replace(": |", ":|")
    )


def percent(share: float) -> str:
    """With two digits that count; 0 only where it is none."""
    return "0" if share == 0 else f"{100 * share:.2g} %"
