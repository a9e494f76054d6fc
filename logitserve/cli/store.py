"""`logitserve store`."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from logitserve.cli.options import json_option, store_option
from logitserve_service.monitoring.receipts import bytes_of
from logitserve_service.monitoring.store import Store


@click.group(
    "store",
    epilog="\b\nExamples:\n  logitserve store info --store /data/store.db\n"
    "  logitserve store backup copy.db --store /data/store.db",
)
def command() -> None:
    """Inspect and maintain a store of predictions."""


@command.command("info", epilog="\b\nExamples:\n  logitserve store info --store store.db")
@store_option
@json_option
def show_info(store: Path, *, as_json: bool) -> None:
    """Show the number of answers, pictures and labels, and the time of the first."""
    info = Store(store).info()
    if as_json:
        click.echo(json.dumps(info))
        return
    for table, count in info["rows"].items():
        click.echo(f"{table:9} {count}")
    since = info["oldest"] and datetime.fromtimestamp(info["oldest"], UTC).isoformat()
    click.echo(f"{'bytes':9} {info['bytes']}\n{'since':9} {since or '–'}")


@command.command("erase", epilog="\b\nExamples:\n  logitserve store erase ID --store store.db")
@click.argument("identity", metavar="ID")
@store_option
@json_option
def erase(identity: str, store: Path, *, as_json: bool) -> None:
    """Erase an answer with its picture and labels; no byte of it remains."""
    raw = bytes_of(identity)
    if raw is None:
        raise click.ClickException(f"{identity!r} is not the id of a prediction")
    rows = Store(store).erase(raw)
    click.echo(json.dumps({"rows": rows}) if as_json else f"erased {rows} rows")


@command.command("merge", epilog="\b\nExamples:\n  logitserve store merge b.db --store a.db")
@click.argument("other", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@store_option
@json_option
def merge(other: Path, store: Path, *, as_json: bool) -> None:
    """Copy the rows of the store OTHER, of another replica, into this one."""
    into = Store(store)
    into.merge(Store(other))
    rows = into.info()["rows"]
    click.echo(json.dumps(rows) if as_json else f"now {rows['answer']} answers")


@command.command("backup", epilog="\b\nExamples:\n  logitserve store backup copy.db --store a.db")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@store_option
@json_option
def backup(out: Path, store: Path, *, as_json: bool) -> None:
    """Copy the store to the new file OUT, while it is in use."""
    if out.exists():
        raise click.ClickException(f"{out} exists; name a new file")
    Store(store).backup(out)
    click.echo(json.dumps({"bytes": out.stat().st_size}) if as_json else f"copied to {out}")
