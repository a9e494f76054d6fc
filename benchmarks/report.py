"""What the rounds of the comparison come to: medians, ratios, one table."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.forms import Row
from benchmarks.load import Measured
from benchmarks.markdown import table
from benchmarks.servers import ASGI, BARE, BY_HAND, MOSEC, OURS

Rounds = list[dict[str, Measured]]
"""What each round gave, by server."""


def ratio(rounds: Rounds, over: str, under: str, figure: str = "per_second") -> float | None:
    """Median of the rounds' ratios; None if one of the two was not measured."""
    if any(name not in measured for measured in rounds for name in (over, under)):
        return None
    return statistics.median(
        float(getattr(measured[over], figure) / getattr(measured[under], figure))
        for measured in rounds
    )


def by_server(rounds: Rounds) -> dict[str, dict[str, float | None]]:
    """Medians of every server, and its ratio to the hand-written endpoint."""
    figures = ("per_second", "p50_ms", "p99_ms", "cpu_us", "generator")
    return {
        name: {
            **{
                figure: statistics.median(getattr(measured[name], figure) for measured in rounds)
                for figure in figures
            },
            "ratio": ratio(rounds, name, BY_HAND),
        }
        for name in rounds[0]
    }


def rows(found: Mapping[Row, Rounds]) -> list[dict[str, Any]]:
    """The rows of the table, as JSON has them."""
    return [
        {
            "form": row.form.title,
            "model": row.label,
            "needed": row.form.needed,
            "ratio": ratio(rounds, OURS, BY_HAND),
            "cpu_ratio": ratio(rounds, BY_HAND, OURS, "cpu_us"),
            "mosec_ratio": ratio(rounds, OURS, MOSEC),
            "p99_ratio": ratio(rounds, OURS, BY_HAND, "p99_ms"),
            "servers": by_server(rounds),
        }
        for row, rounds in found.items()
    ]


def others(found: Mapping[str, Rounds]) -> list[dict[str, Any]]:
    """Other model servers, with their figures."""
    return [{"name": name, **by_server(rounds)[name]} for name, rounds in found.items()]


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}×"


def text(document: Mapping[str, Any]) -> str:
    """The table, and how it was measured."""
    parts = [_forms(document["rows"])]
    if document["others"]:
        parts.append(_others(document["others"]))
    parts.append(_how(document["about"], document["rows"]))
    return "\n".join(parts)


def _forms(found: Sequence[Mapping[str, Any]]) -> str:
    asgi = any(ASGI in row["servers"] for row in found)
    return table(
        [
            {
                "form": row["form"],
                "model": row["model"],
                "logitserve, req/s": f"{row['servers'][OURS]['per_second']:,.0f}",
                "hand-written": f"{row['servers'][BY_HAND]['per_second']:,.0f}",
                "ratio": f"**{row['ratio']:.2f}×**",
                "by CPU time": _times(row["cpu_ratio"]),
                "needed": f"{row['needed']:g}×",
                **(
                    {"under uvicorn": _times(row["servers"].get(ASGI, {}).get("ratio"))}
                    if asgi
                    else {}
                ),
                "to mosec": _times(row["mosec_ratio"]),
                "p50": f"{row['servers'][OURS]['p50_ms']:.1f} ms",
                "p99": f"{row['servers'][OURS]['p99_ms']:.1f} ms",
                "p99 to hand-written": _times(row["p99_ratio"]),
            }
            for row in found
        ]
    )


def _others(found: Sequence[Mapping[str, Any]]) -> str:
    return table(
        [
            {
                "other servers, an encoded image": row["name"],
                "req/s": f"{row['per_second']:,.0f}",
                "to hand-written": _times(row["ratio"]),
                "p50": f"{row['p50_ms']:.1f} ms",
                "p99": f"{row['p99_ms']:.1f} ms",
            }
            for row in found
        ]
    )


def _how(about: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> str:
    busiest = max(each["generator"] for row in found for each in row["servers"].values())
    bare = next((row["servers"][BARE] for row in found if BARE in row["servers"]), None)
    return (
        f"{about['images']} different images in turn over {about['connections']} connections, "
        f"servers on one core, load on another; rounds of {about['seconds']} s: "
        f"{about['rounds']}; medians, ratios of neighbors in time. "
        + (_ceiling(bare) if bare else "")
        + f"In no row was the load generator busy for more than {100 * busiest:.0f} %.\n"
    )


def _ceiling(bare: Mapping[str, float]) -> str:
    speed, busy = bare["per_second"], bare["generator"]
    return (
        f"{BARE}, which gives a fixed answer: {speed:,.0f}/s, with the load generator busy for "
        f"{100 * busy:.0f} % of its core, so it could send {speed / busy:,.0f}/s. "
    )
