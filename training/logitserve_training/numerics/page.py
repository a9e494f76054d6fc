"""The page: `page.md` with the measured numbers filled in."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from logitserve_training.numerics.roundoff import Numbers

TEMPLATE: Final = Path(__file__).with_name("page.md")

Cell = str | float | None


def render(numbers: Numbers) -> str:
    """Fill numbers into the text.

    Args:
        numbers: as `run` wrote them to `numbers.json`.

    Returns:
        Markdown.
    """
    return TEMPLATE.read_text(encoding="utf-8").format(**numbers, tables=_tables(numbers))


def _tables(numbers: Numbers) -> dict[str, str]:
    return {
        "losses": _losses(numbers["losses"]),
        "gradients": _gradients(numbers["gradients"]),
        "endings": _endings(numbers["endings"]),
        "bowl": _bowl(numbers["descent"]),
        "descent": _descent(numbers["descent"]),
        "lone": _lone(numbers["decay"]),
        "decay": _decay(numbers["decay"]),
        "temperatures": _temperatures(numbers["limits"]),
        "two": _two(numbers["limits"]["two"]),
        "layers": _layers(numbers["layers"]),
        "shifts": _shifts(numbers["layers"]),
    }


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    header = list(header)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shown(value: Cell, spec: str) -> str:
    """A number by its format; words that stand for one (NaN, ∞) as they are."""
    if value is None:
        return "–"
    text = value if isinstance(value, str) else format(value, spec)
    return text.replace("-", "−") if "e" not in text else text


def _losses(rows: list[Numbers]) -> str:
    return table(
        [
            "float32 loss",
            "loss right to 1 %",
            "gradient right to 1e-6",
            "loss ∞",
            "loss NaN",
            "gradient NaN",
        ],
        [
            [
                f"{row['head']}: {row['way']}",
                _range(row["loss_right"]),
                _range(row["gradient_right"]),
                _outside(row["loss_infinite"]),
                _outside(row["loss_nan"]),
                _outside(row["gradient_nan"]),
            ]
            for row in rows
        ],
    )


def _range(ends: list[float]) -> str:
    return f"{shown(ends[0], '.1f')} … {shown(ends[1], '.1f')}"


def _outside(nearest: list[float | None]) -> str:
    below, above = nearest
    parts = []
    if below is not None:
        parts.append(f"from {shown(below, '.1f')} down")
    if above is not None:
        parts.append(f"from {shown(above, '.1f')} up")
    return ", ".join(parts) or "never"


def _gradients(rows: list[Numbers]) -> str:
    return table(
        [
            "head",
            "autodiff, float64",
            "autodiff, float32",
            "central differences, float64",
            "at step h",
        ],
        [
            [
                row["head"],
                *(
                    shown(row[key], ".1e")
                    for key in ("autodiff64", "autodiff32", "difference", "step")
                ),
            ]
            for row in rows
        ],
    )


def _endings(settings: list[Numbers]) -> str:
    header = ["start, and mean largest logit"]
    header += [ending["name"] for ending in settings[0]["endings"]]
    rows = []
    for setting in settings:
        name = f"{setting['name']} ({setting['spread']:.3g})"
        rows.append(
            [f"{name}: accuracy", *(_percent(end["accuracy"]) for end in setting["endings"])]
        )
        rows.append(["… training loss", *(shown(end["loss"], ".4f") for end in setting["endings"])])
    return table(header, rows)


def _bowl(numbers: Numbers) -> str:
    return table(
        ["in the bowl", "rate", f"J after {numbers['steps']} steps"],
        [
            [row["name"], shown(row["rate"], ".4f"), shown(row["height"], ".3g")]
            for row in numbers["bowl"]
        ],
    )


def _descent(numbers: Numbers) -> str:
    return table(
        ["25-15-10 network", "rate", "training loss", "validation accuracy"],
        [
            [
                row["name"],
                shown(row["rate"], "g"),
                shown(row["loss"], ".4f"),
                _percent(row["accuracy"]),
            ]
            for row in numbers["network"]
        ],
    )


def _lone(numbers: Numbers) -> str:
    return table(
        ["what is left of a weight of 1", *(f"noise {noise:g}" for noise in numbers["noises"])],
        [
            [f"{row['optimizer']}, {row['way']}", *(shown(left, ".3f") for left in row["left"])]
            for row in numbers["lone"]
        ],
    )


def _decay(numbers: Numbers) -> str:
    return table(
        ["accuracy (norm of the weights)", *(f"λ = {value:g}" for value in numbers["strengths"])],
        [
            [
                f"{row['optimizer']}, {row['way']}",
                *(
                    f"{_percent(accuracy)} ({shown(norm, '.2f')})"
                    for accuracy, norm in zip(row["accuracies"], row["norms"], strict=True)
                ),
            ]
            for row in numbers["runs"]
        ],
    )


def _temperatures(numbers: Numbers) -> str:
    rows = [
        [f"T = {row['temperature']:g}", *(shown(p, ".3g") for p in row["probabilities"])]
        for row in numbers["rows"]
    ]
    rows.insert(0, ["hardmax", *(shown(p, "g") for p in numbers["hardmax"])])
    return table(["probability of", *(f"z = {z:g}" for z in numbers["logits"])], rows)


def _two(numbers: Numbers) -> str:
    return table(
        ["logit z", "1 − sigmoid(z)", "sigmoid(−z)"],
        [
            [shown(row["z"], "g"), shown(row["one_minus"], ".6g"), shown(row["other_side"], ".6g")]
            for row in numbers["rows"]
        ],
    )


def _layers(numbers: Numbers) -> str:
    return table(
        ["layers", "parameters", "accuracy", "pixels permuted"],
        [
            [
                row["kind"],
                f"{row['parameters']:,}",
                _percent(row["accuracy"]),
                _percent(row["permuted"]),
            ]
            for row in numbers["rows"]
        ],
    )


def _shifts(numbers: Numbers) -> str:
    return table(
        ["accuracy on pictures moved by", *(f"{shift} px" for shift in numbers["shifts"])],
        [
            [f"{row['kind']}, {row['parameters']:,}", *(_percent(one) for one in row["shifted"])]
            for row in numbers["rows"]
        ],
    )


def _percent(value: Any) -> str:
    return f"{value:.2%}".replace("%", " %")
