"""`logitserve models promote`, `rollback`, `canary`, `shadow` and `rollout`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from logitserve.cli.options import json_option, models_option
from logitserve.inference.repository import ModelRepository
from logitserve.inference.rollout import NEWEST, Rollout, check, read, write

Command = TypeVar("Command", bound=Callable[..., Any])

_name = click.argument("name")
_version = click.argument("version", metavar="VERSION")


def _percent(default: float) -> Callable[[Command], Command]:
    text = "share of the requests (canary) or batches (shadow); 0 stops it"
    return click.option(
        "--percent", type=click.FloatRange(0, 100), default=default, show_default=True, help=text
    )


@click.command("promote")
@_name
@_version
@models_option
def promote(name: str, version: str, models: Path) -> None:
    """Make VERSION of the model NAME live: it answers requests that name no version.

    VERSION stays live until another one is promoted; `newest` is always the newest version.
    """
    _change(models, name, live=None if version == NEWEST else version)


@click.command("rollback")
@_name
@models_option
def rollback(name: str, models: Path) -> None:
    """Make the previously live version of the model NAME live again; end canary and shadow."""
    rollout, versions, _ = _read(models, name)
    _change(models, name, live=rollout.before(versions), canary=None, shadow=None)


@click.command("canary")
@_name
@_version
@_percent(5)
@click.option(
    "--by",
    default="request",
    show_default=True,
    help="routing key: request (its id), key, or header:NAME",
)
@models_option
def canary(name: str, version: str, percent: float, by: str, models: Path) -> None:
    """Route a share of the requests that name no version to VERSION of the model NAME."""
    settings = {"version": version, "percent": percent, "by": by} if percent else None
    _change(models, name, canary=settings)


@click.command("shadow")
@_name
@_version
@_percent(100)
@models_option
def shadow(name: str, version: str, percent: float, models: Path) -> None:
    """Run VERSION of the model NAME after the live one, and count different answers."""
    settings = {"version": version, "percent": percent} if percent else None
    _change(models, name, shadow=settings)


@click.command("rollout")
@_name
@json_option
@models_option
def show(name: str, models: Path, *, as_json: bool) -> None:
    """Show the live, canary and shadow versions of the model NAME, and their history."""
    rollout, versions, _ = _read(models, name)
    if as_json:
        click.echo(rollout.model_dump_json(indent=2))
        return
    click.echo(_text(rollout, versions))
    for change in reversed(rollout.history):
        click.echo(f"  {change.at:%Y-%m-%d %H:%M:%S} by {change.by}: {_text(change, versions)}")


commands = (promote, rollback, canary, shadow, show)


def _read(models: Path, name: str) -> tuple[Rollout, list[str], Path]:
    repository = ModelRepository(models)
    folder = repository.folder(name)
    return read(folder), repository.versions(name), folder


def _change(models: Path, name: str, **members: Any) -> None:
    rollout, versions, folder = _read(models, name)
    changed = rollout.changed("command", rollout.live or versions[-1], **members)
    check(changed, versions)
    write(folder, changed)
    click.echo(f"model {name}: {_text(changed, versions)}")
    click.echo("A running service follows within LOGITSERVE_WATCH_SECONDS.")


def _text(state: Any, versions: Sequence[str]) -> str:
    live = f"version {state.live}" if state.live else f"the newest version ({versions[-1]})"
    parts = [f"{live} is live"]
    if state.canary is not None:
        share = f"{state.canary.percent:g} % by {state.canary.by}"
        parts.append(f"version {state.canary.version} is the canary ({share})")
    if state.shadow is not None:
        share = f"{state.shadow.percent:g} %"
        parts.append(f"version {state.shadow.version} is the shadow ({share})")
    return ", ".join(parts)
