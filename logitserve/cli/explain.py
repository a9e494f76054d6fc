"""`logitserve explain`."""

import json
from pathlib import Path
from typing import IO, Any

import click

from logitserve.cli.options import connected, model_file, models_option
from logitserve.inference.explaining import BUDGET_MS, MAX_BUDGET_MS, Explainer, Method
from logitserve.inference.images import encode_png
from logitserve.inference.model_file import read
from logitserve.inference.overlay import overlay
from logitserve.inference.predictor import Predictor

Answer = tuple[dict[str, Any], bytes | None]
"""The JSON of the route, and the drawing if requested."""


@click.command(
    "explain",
    epilog="""\b
    Examples:
      logitserve explain digits three.png
      logitserve explain digits three.png --label 3 --against 8 -o why.png
      logitserve explain digits three.png --url http://localhost:8000 --json

    The interpretation of a map and its limits: docs/explain.md.""",
)
@click.argument("model", metavar="MODEL[/VERSION]")
@click.argument("picture", type=click.File("rb"))
@models_option
@click.option("--url", help="URL of a running server that computes the map; see predict --url")
@click.option("--output", "-o", type=click.File("wb"), help="PNG file to draw the map in")
@click.option("--label", help="label to explain; default: the most probable label")
@click.option("--against", metavar="LABEL", help="explain why the label is preferred to this one")
@click.option(
    "--method",
    type=click.Choice([method.value for method in Method]),
    default=Method.AUTO.value,
    show_default=True,
    help="occlusion covers parts of the picture; cam is class activation maps of the network",
)
@click.option(
    "--budget-ms",
    type=click.IntRange(1, MAX_BUDGET_MS),
    default=BUDGET_MS,
    show_default=True,
    help="milliseconds; if they do not suffice for occlusion, auto uses cam",
)
@click.option("--json", "as_json", is_flag=True, help="print the server's JSON answer")
def command(
    model: str,
    picture: IO[bytes],
    models: Path,
    *,
    url: str | None,
    output: IO[bytes] | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Show which parts of a PICTURE determine a MODEL's answer.

    Plus signs mark parts that support the label, minus signs parts that oppose it.
    """
    data, is_drawn = picture.read(), output is not None
    if url is None:
        found, png = _here(model_file(models, model), data, asked, is_drawn=is_drawn)
    else:
        found, png = _by_server(url, model, data, asked, is_drawn=is_drawn)
    if output is not None and png is not None:
        output.write(png)
    click.echo(
        json.dumps(found) if as_json else _text(found, None if output is None else output.name)
    )


def _here(path: Path, data: bytes, asked: dict[str, Any], *, is_drawn: bool) -> Answer:
    with read(path) as reading:
        card = Predictor.of(reading, path=path).card
        explainer = Explainer(reading, card)
    prediction, image = explainer.predict(data)
    explanation = explainer.explain(image, **asked | {"method": Method(asked["method"])})
    who = {"model": card.name, "version": card.version, "prediction": prediction}
    png = encode_png(overlay(image, explanation.map)) if is_drawn else None
    return who | explanation.model_dump(mode="json"), png


def _by_server(
    url: str, model: str, data: bytes, asked: dict[str, Any], *, is_drawn: bool
) -> Answer:
    name, _, version = model.partition("/")
    asked = {**asked, "model": name, "version": version or None}
    with connected(url) as client:
        found = client.explain(data, **asked)
        return found, client.explain(data, png=True, **asked) if is_drawn else None


def _text(found: dict[str, Any], output: str | None) -> str:
    probability = found["prediction"]["probabilities"][found["label"]]
    against = "" if found["against"] is None else f" against {found['against']}"
    lines = [f"{found['label']}{against} ({probability:.4f}), by {found['method']}"]
    if not found["complete"]:
        lines[0] += f": {found['passes']} of {found['of']} passes; raise --budget-ms for all"
    if found["drop"] is not None:
        top, random = found["drop"]["top"], found["drop"]["random"]
        lines.append(
            f"covering its top fifth lowers the log-odds by {top:.2f}, a random one by {random:.2f}"
        )
    if output is not None:
        return "\n".join([*lines, f"drawn in {output}"])
    rows = found["map"]
    most = max((abs(cell) for row in rows for cell in row if cell is not None), default=0) or 1
    return "\n".join([*lines, *("".join(_sign(cell, most) for cell in row) for row in rows)])


def _sign(cell: float | None, most: float) -> str:
    """Return one cell of the map, two characters wide, about as wide as a line is high."""
    if cell is None:
        return "? "
    count = round(2 * abs(cell) / most)
    return f"{('+' if cell > 0 else '-') * count or '·':<2}"
