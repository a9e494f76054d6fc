"""`logitserve feedback`."""

import csv
import json
from pathlib import Path

import click

from logitserve.cli.options import connected, json_option, url_option

COLUMNS = ("id", "label", "labels", "source", "at")


@click.command(
    "feedback",
    epilog="""\b
    Examples:
      logitserve feedback labels.csv --url http://localhost:8000
      printf 'id,label\\n%s,7\\n' "$ID" | logitserve feedback -""",
)
@click.argument("file", type=click.Path(exists=True, allow_dash=True, path_type=Path))
@url_option
@json_option
@click.pass_context
def command(ctx: click.Context, file: Path, url: str, *, as_json: bool) -> None:
    """Send the true labels of predictions in FILE to a server.

    FILE is CSV with the columns id and label, or id and labels (separated by ;), and optionally
    source and at. The exit status is 1 if a row is invalid.
    """
    with click.open_file(str(file), encoding="utf-8-sig") as opened:
        rows = list(csv.DictReader(opened))
    given = list(rows[0] if rows else ())
    if not {"id"} < set(given) <= {*COLUMNS}:
        shown = ", ".join(map(str, given)) or "none"
        raise click.ClickException(f"{file} has the columns {shown}; known: {', '.join(COLUMNS)}")
    labels: list[dict[str, object]] = []
    for row in rows:
        # An empty labels cell means that no label holds; any other empty cell is ignored.
        label: dict[str, object] = {name: cell for name, cell in row.items() if cell}
        if "labels" in given and "label" not in label:
            label["labels"] = [name for name in (row["labels"] or "").split(";") if name]
        labels.append(label)
    with connected(url) as client:
        found = client.feedback(labels)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        counts = [f"{name} {count}" for name, count in found.items() if name != "places"]
        click.echo(", ".join(counts))
        for place in found["places"]:
            click.echo(f"row {place['index'] + 1}: {place['reason']}", err=True)
    if found.get("invalid"):
        ctx.exit(1)
