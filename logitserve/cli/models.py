"""`logitserve models`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from logitserve.cli import rollout
from logitserve.cli.compare import compare
from logitserve.cli.options import json_option, models_option
from logitserve.inference.card import ModelCard
from logitserve.inference.errors import ModelFileError
from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import ModelRepository
from logitserve.published import find


@dataclass(frozen=True, slots=True)
class Listed:
    """A version of a model in the folder: its card, or why it must not be served."""

    name: str
    version: str
    bytes: int
    card: ModelCard | None = None
    error: str | None = None

    @classmethod
    def read(cls, repository: ModelRepository, name: str, version: str) -> "Listed":
        """Open a version as serving would."""
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
    """Look into a folder of models, and choose which versions answer."""


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
    """List every version of every model, each opened and proven as when serving.

    The exit status is 1 if one of them must not be served.
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
    """Show the card of one version, the latest if none is named."""
    file = find(models, model)
    card = Predictor.load(file).card
    if as_json:
        document = {**card.model_dump(mode="json", exclude={"goldens"}), "file": str(file)}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    lines = _lines(card, file)
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        click.echo(f"{name:{width}}  {text}")


def _summary(item: Listed) -> dict[str, Any]:
    if item.card is None:
        return {
            "name": item.name,
            "version": item.version,
            "bytes": item.bytes,
            "error": item.error,
        }
    fields = {"description", "head", "labels", "metrics", "created", "license"}
    about = item.card.model_dump(mode="json", include=fields)
    return {"name": item.name, "version": item.version, "bytes": item.bytes, **about}


def _echo_table(listed: list[Listed]) -> None:
    rows = [("MODEL", "VERSION", "HEAD", "LABELS", "SIZE", "ACCURACY", "CREATED")]
    for item in listed:
        if item.card is None:
            rows.append((item.name, item.version, "–", "–", _size(item.bytes), "–", "–"))
            continue
        accuracy = item.card.metrics.get("accuracy")
        rows.append(
            (
                item.name,
                item.version,
                item.card.head,
                str(len(item.card.labels)),
                _size(item.bytes),
                "–" if accuracy is None else f"{accuracy:.4f}",
                f"{item.card.created:%Y-%m-%d %H:%M}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)))
    for item in listed:
        if item.error:
            click.echo(f"{item.name}/{item.version} must not be served: {item.error}", err=True)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _lines(card: ModelCard, file: Path) -> list[tuple[str, str]]:
    """The card for reading: name and text of each line."""
    spec = card.input
    lines = [
        ("model", f"{card.name} version {card.version}"),
        ("description", card.description),
        ("file", f"{file} ({_size(file.stat().st_size)})"),
        ("created", f"{card.created:%Y-%m-%d %H:%M %Z}"),
        ("license", card.license),
        ("head", card.head),
        ("labels", ", ".join(card.labels)),
        ("input", f"{spec.height}×{spec.width}×{spec.channels} pixels, fit: {spec.fit}"),
        ("temperature", f"{card.temperature:g}"),
        ("goldens", f"{len(card.goldens)} pictures, answered as when the file was made"),
    ]
    if card.adopted is not None:
        lines.append(("adopted", f"from {card.adopted.file}: {card.adopted.ending}"))
    if card.batch is not None:
        lines.append(("batch", f"{card.batch} at a time; other numbers are run in such parts"))
    if card.thresholds:
        lines.append(("thresholds", ", ".join(f"{value:g}" for value in card.thresholds)))
    if card.metrics:
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in card.metrics.items())
        lines.append(("metrics", metrics))
    if data := card.dataset:
        split = f"{data.train} to train, {data.validation} to choose, {data.test} to test"
        lines += [("data set", f"{data.name}: {split}"), ("", f"SHA-256 {data.sha256}")]
    if made := card.training:
        settings = ", ".join(f"{name}={value}" for name, value in made.settings.items())
        libraries = ", ".join(f"{name} {version}" for name, version in made.libraries.items())
        lines += [
            ("recipe", f"{made.recipe}, seed {made.seed}"),
            ("settings", settings),
            ("libraries", libraries),
        ]
    return lines
