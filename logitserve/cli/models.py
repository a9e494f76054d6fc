"""`logitserve models`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from logitserve.cli import rollout
from logitserve.cli.compare import compare
from logitserve.cli.options import json_option, model_file, models_option
from logitserve.inference.card import ModelCard
from logitserve.inference.card_text import facts
from logitserve.inference.errors import ModelFileError
from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import ModelRepository


@dataclass(frozen=True, slots=True)
class Listed:
    """A version of a model in the folder: its card, or the reason why it is refused."""

    name: str
    version: str
    bytes: int
    card: ModelCard | None = None
    error: str | None = None

    @classmethod
    def read(cls, repository: ModelRepository, name: str, version: str) -> "Listed":
        """Open a version as the service does."""
        file = repository.model_file(name, version)
        size = file.stat().st_size
        try:
            return cls(name, version, size, card=Predictor.load(file).card)
        except ModelFileError as error:
            return cls(name, version, size, error=str(error))


@click.group(
    "models", epilog="\b\nExamples:\n  logitserve models list\n  logitserve models show zero"
)
def command() -> None:
    """List the models of a folder, and choose the live versions."""


for each in (compare, *rollout.commands):
    command.add_command(each)


@command.command(
    "list",
    epilog="""\b
    Examples:
      logitserve models list
      logitserve models list --models /srv/models --json""",
)
@models_option
@json_option
@click.pass_context
def list_models(ctx: click.Context, models: Path, *, as_json: bool) -> None:
    """List every version of every model; each is loaded and verified as by the service.

    The exit status is 1 if a version is refused.
    """
    repository = ModelRepository(models)
    listed = [
        Listed.read(repository, name, version)
        for name in repository.names()
        for version in repository.versions(name)
    ]
    if as_json:
        click.echo(json.dumps([_summary(item) for item in listed], indent=2, ensure_ascii=False))
    else:
        _echo_table(listed)
    if any(item.error for item in listed):
        ctx.exit(1)


@command.command(
    "show",
    epilog="""\b
    Examples:
      logitserve models show digits
      logitserve models show digits/1 --json""",
)
@click.argument("model", metavar="NAME[/VERSION]")
@models_option
@json_option
def show(model: str, models: Path, *, as_json: bool) -> None:
    """Show the card of one version; the latest by default."""
    file = model_file(models, model)
    card = Predictor.load(file).card
    if as_json:
        document = {**card.model_dump(mode="json", exclude={"goldens"}), "file": str(file)}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    lines = [
        ("model", f"{card.name} version {card.version}"),
        ("description", card.description),
        ("file", f"{file} ({_size(file.stat().st_size)})"),
        *facts(card),
        ("goldens", f"{len(card.goldens)} pictures, with the logits recorded in the file"),
        ("metrics", ", ".join(f"{name} {value:.4f}" for name, value in card.metrics.items())),
    ]
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        click.echo(f"{name:{width}}  {text}")


def _summary(item: Listed) -> dict[str, Any]:
    about: dict[str, Any] = {"error": item.error}
    if item.card is not None:
        fields = {"description", "head", "labels", "metrics", "created", "license"}
        about = item.card.model_dump(mode="json", include=fields)
    return {"name": item.name, "version": item.version, "bytes": item.bytes, **about}


def _echo_table(listed: list[Listed]) -> None:
    rows = [("MODEL", "VERSION", "HEAD", "LABELS", "SIZE", "ACCURACY", "CREATED")]
    for item in listed:
        head = labels = accuracy = created = "–"
        if (card := item.card) is not None:
            head, labels = card.head, str(len(card.labels))
            created = f"{card.created:%Y-%m-%d %H:%M}"
            accuracy = f"{card.metrics['accuracy']:.4f}" if "accuracy" in card.metrics else "–"
        size = _size(item.bytes)
        rows.append((item.name, item.version, head, labels, size, accuracy, created))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)))
    for item in listed:
        if item.error:
            click.echo(f"{item.name}/{item.version} is refused: {item.error}", err=True)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
