"""`logitserve drift`."""

import json
from typing import Any, Final

import click

from logitserve.cli.options import connected, json_option, url_option

NOT_WATCHED: Final = 404


@click.command(
    "drift",
    epilog="""\b
    Examples:
      logitserve drift
      logitserve drift digits --url https://digits.example.org --json
      logitserve drift digits --accept live""",
)
@click.argument("model", required=False, metavar="[NAME[/VERSION]]")
@url_option
@click.option(
    "--accept",
    type=click.Choice(["live", "card"]),
    help="new reference from now on: the last 2,000 pictures, or the card's reference; needs the "
    "admin key (LOGITSERVE_API_KEY)",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context, model: str | None, url: str, accept: str | None, *, as_json: bool
) -> None:
    """Ask a server whether its input has drifted from the reference.

    The default is all models. The exit status is 1 while there is an alarm. The server needs
    `logitserve serve --watch true`.
    """
    found = []
    with connected(url) as client:
        from logitserve.client import ResponseError

        names = [model] if model else [each.name for each in client.models()]
        for name, _, number in (each.partition("/") for each in names):
            try:
                found.append(client.drift(name, number or None, accept=accept))
            except ResponseError as error:
                is_last = name == names[-1] and not found
                if model or error.status != NOT_WATCHED or is_last:
                    raise
                click.echo(f"{name}: {error.detail}", err=True)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        for report in found:
            _tell(report)
    if any(report["alarm"] for report in found):
        ctx.exit(1)


def _tell(report: dict[str, Any]) -> None:
    normal = {"card": "the training's", "live": "the accepted ones"}[report["reference"]]
    click.echo(
        f"{report['model']} version {report['version']}: {report['pictures']} pictures compared "
        f"with {normal}"
    )
    for each in report["features"]:
        psi = (
            f"PSI {round(each['windows'][-1]['psi'], 3) + 0.0:.3f}"
            if each["windows"]
            else "not yet"
        )
        said = f"  ALARM since {each['since']}: {each['sentence']}" if each["alarm"] else ""
        click.echo(f"  {each['feature']:<10} {psi}{said}")
