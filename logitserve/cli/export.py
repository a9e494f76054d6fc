"""`logitserve export`."""

import csv
import io
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import numpy as np
from PIL import Image

from logitserve.cli.options import json_option, store_option
from logitserve.inference.card import Head, ModelCard
from logitserve.inference.naming import absent
from logitserve.inference.thumbnails import CLOSE, normalized, shrunken
from logitserve_service.monitoring.quality import labeled_of
from logitserve_service.monitoring.receipts import text_of
from logitserve_service.monitoring.store import Store
from logitserve_service.monitoring.store_writer import SURE

LABELED, HARD, DISAGREE = CHOICES = ("labeled", "hard", "disagree")
_CHUNK: Final = 256
_SELECT: Final = """
SELECT p.id, p.png, f.labels, max(f.at), a.probability, a.known, a.logits
FROM picture p JOIN answer a ON a.id = p.id JOIN feedback f ON f.id = p.id
WHERE a.model = ? GROUP BY p.id"""


@click.command(
    "export",
    epilog="""\b
    Examples:
      logitserve export digits new-pictures --store /data/store.db --only hard
      logitserve train folder --data new-pictures --group-by group""",
)
@click.argument("model")
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--only",
    type=click.Choice(CHOICES),
    default=LABELED,
    show_default=True,
    help="hard: where the model was wrong or unsure; disagree: where it was wrong",
)
@store_option
@json_option
def command(model: str, out: Path, only: str, store: Path, *, as_json: bool) -> None:
    """Write labeled pictures of a store as a folder to train from.

    OUT receives the pictures and labels.csv. Its column group holds near-duplicates together, so
    that a split by group does not leak test pictures into training.
    """
    opened = Store(store)
    cards = {key: card for key, card in opened.models().items() if card.name == model}
    if not cards:
        names = {card.name for card in opened.models().values()}
        raise click.ClickException(absent("model", model, sorted(names), " in the store"))
    if out.exists() and any(out.iterdir()):
        raise click.ClickException(f"{out} is not empty; name a new folder")
    rows: list[sqlite3.Row] = []
    with opened.transaction() as reading:
        for key, card in cards.items():
            rows += _chosen(card, reading.execute(_SELECT, (key,)).fetchall(), only)
    if not rows:
        raise click.ClickException(
            f"the store has no {only} picture of {model}; `logitserve serve --keep-pictures` keeps "
            "some, and POST /feedback labels them"
        )
    groups = _groups([row["png"] for row in rows])
    _write(out, rows, groups, is_single=next(iter(cards.values())).head is not Head.SIGMOID)
    found = {"folder": f"{out}", "pictures": len(rows), "groups": len(set(groups))}
    if as_json:
        click.echo(json.dumps(found))
    else:
        click.echo(f"{len(rows)} pictures in {found['groups']} groups are in {out}")
        click.echo(f"train on them: logitserve train folder --data {out} --group-by group")


def _chosen(card: ModelCard, rows: Sequence[sqlite3.Row], only: str) -> list[sqlite3.Row]:
    labeled, _ = labeled_of(card, rows)
    wanted = np.full(len(rows), only == LABELED) | ~labeled.right
    return [
        row
        for row, is_wanted in zip(rows, wanted, strict=True)
        if is_wanted or (only == HARD and (row["probability"] < SURE or row["known"] == 0))
    ]


def _groups(pngs: Sequence[bytes]) -> list[int]:
    """Return each picture's group: the number of the first picture of its near-duplicates."""
    thumbnails = normalized([shrunken(Image.open(io.BytesIO(png))) for png in pngs])
    group = np.arange(len(pngs))
    for start in range(0, len(pngs), _CHUNK):
        close = thumbnails[start : start + _CHUNK] @ thumbnails.T >= CLOSE
        for row, other in np.argwhere(close):
            if group[start + row] != group[other]:
                group[group == group[other]] = group[start + row]
    return [int(number) for number in group]


def _write(out: Path, rows: Sequence[sqlite3.Row], groups: list[int], *, is_single: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    truth = [json.loads(row["labels"]) for row in rows]
    names = sorted({name for labels in truth for name in labels})
    with (out / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["filename", *(["label"] if is_single else names), "group"])
        for row, labels, group in zip(rows, truth, groups, strict=True):
            name = f"{text_of(row['id'])}.png"
            (out / name).write_bytes(row["png"])
            cells = labels if is_single else [int(label in labels) for label in names]
            table.writerow([name, *cells, group])
