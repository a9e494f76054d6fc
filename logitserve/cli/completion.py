"""`logitserve completion`."""

import click
from click.shell_completion import get_completion_class

PROGRAM = "logitserve"


@click.command(
    "completion",
    epilog="""\b
    Examples:
      eval "$(logitserve completion bash)"        in ~/.bashrc
      eval "$(logitserve completion zsh)"         in ~/.zshrc
      logitserve completion fish > ~/.config/fish/completions/logitserve.fish""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the shell completion script for SHELL."""
    completion = get_completion_class(shell)
    assert completion is not None  # noqa: S101 - the choice above lists only shells of click
    variable = f"_{PROGRAM.upper()}_COMPLETE"
    click.echo(completion(ctx.find_root().command, {}, PROGRAM, variable).source())
