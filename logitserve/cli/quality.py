"""`logitserve quality`."""

import json
from typing import Any

import click

from logitserve.cli.options import connected, json_option, url_option


@click.command(
    "quality",
    epilog="""\b
    Examples:
      logitserve quality
      logitserve quality digits --window 4w --json""",
)
@click.argument("model", required=False)
@click.option("--version", help="default: the live version")
@click.option("--window", default="7d", show_default=True, help="time window, e.g. 12h, 7d, 4w")
@url_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    model: str | None,
    version: str | None,
    window: str,
    url: str,
    *,
    as_json: bool,
) -> None:
    """Show the measured quality of a server's models.

    The exit status is 1 if an accuracy is significantly below the one on the card.
    """
    with connected(url) as client:
        names = [served.name for served in client.models()] if model is None else [model]
        found = [client.quality(name, version=version, window=window) for name in names]
    if as_json:
        click.echo(json.dumps(found if model is None else found[0], indent=2, ensure_ascii=False))
    else:
        for one in found:
            _show(one)
    if any(one["alarm"] for one in found):
        ctx.exit(1)


def _show(found: dict[str, Any]) -> None:
    stated = found["expected"]
    click.echo(
        f"{found['model']} version {found['version']}: {found['answers']} answers, "
        f"{found['labels']} with a label"
        + ("" if stated is None else f"; the card states accuracy {stated:.4f}")
        + ("; ALARM: it is below that" if found["alarm"] else "")
    )
    for name, of in found["measures"].items():
        shown = [_of(of["naive"]), "" if of["weighted"] is None else _of(of["weighted"])]
        click.echo(f"  {name:16} {shown[0]:26} {shown[1]}")
    if found["measures"]:
        click.echo("  (over what is labeled; weighted, over all answers)")
    for name, count in found["new_classes"].items():
        click.echo(f"  true label that no class has: {name!r}, {count} times")
    if found["estimated"] is None:
        click.echo(f"  no estimate without labels: {found['not_estimated']}")
    else:
        click.echo(f"  accuracy by the probabilities, without labels: {found['estimated']:.4f}")


def _of(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.4f} ({estimate['low']:.4f} to {estimate['high']:.4f})"
