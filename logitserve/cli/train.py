"""`logitserve train`."""

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from logitserve.cli.folder_options import (
    BACKBONE_OPTIONS,
    backbone_of,
    recipe_options,
    require_used,
    with_folder_options,
)
from logitserve.cli.options import data_option, models_option, training_errors

if TYPE_CHECKING:
    from logitserve_training.recipes import NetworkName


class _WithRecipes(click.Command):
    """Lists the recipes in its help."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from logitserve_training.recipes import RECIPES

        rows = [(one.name, f"{one.description} Takes {one.takes}.") for one in RECIPES.values()]
        with formatter.section("Recipes"):
            formatter.write_dl(rows)
        super().format_epilog(ctx, formatter)


@click.command(
    "train",
    cls=_WithRecipes,
    epilog="""\b
    Examples:
      logitserve train digits
      logitserve train digits-mlp --data mnist --name mine --epochs 60
      logitserve train folder --data pictures --name mine
      logitserve train folder --data pictures --name mine --backbone resnet18.onnx
      logitserve train folder --data street --name street --group-by '[^_]+'

    The recipe `folder` reads pictures in one folder per class, in train/, val/ and test/, with
    the class in the file names, or with a table; --dry-run shows what is read. Options that are not
    given are chosen from the pictures.""",
)
@click.argument("recipe")
@data_option
@click.option("--name", help="name of the model; default: the recipe's")
@models_option
@click.option(
    "--if-better",
    is_flag=True,
    help="publish only if the test part has more right answers than with the previous version",
)
@click.option(
    "--resume",
    is_flag=True,
    help="resume the same training after an interruption",
)
@click.option("--finish", is_flag=True, help="folder, with --resume: publish the best epoch so far")
@click.option("--dry-run", is_flag=True, help="show what would be read, without training")
@recipe_options
def command(
    recipe: str,
    data: Path | None,
    name: str | None,
    models: Path,
    network: "NetworkName | None",
    *,
    if_better: bool,
    resume: bool,
    finish: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Train a model by a RECIPE and publish it.

    The recipe has defaults for all options.
    """
    if finish and not resume:
        raise click.UsageError("--finish needs --resume")
    of_backbone = {key: options.pop(key) for key in BACKBONE_OPTIONS}
    with training_errors():
        from logitserve_training import recipes

        chosen = recipes.find(recipe)
        of_folder = {each.name: options.pop(each.name) for each in fields(recipes.FolderOptions)}
        given = {key: value for key, value in options.items() if value is not None}
        settings = replace(chosen.options, **given)
        if of_backbone["backbone"] is not None:  # its features are robust to such variation already
            plain = {"flip": False, "crop": 0.0, "color": 0.0}
            of_folder |= {name: value for name, value in plain.items() if of_folder[name] is None}
        chosen = with_folder_options(chosen, network, of_folder)
        flags = {"network": network, "finish": finish or None, "if_better": if_better or None}
        require_used(options | of_folder | of_backbone | flags)
        backbone = backbone_of(of_backbone, chosen, data)
        if backbone is not None:
            chosen = backbone.recipe_of(chosen)
        if dry_run:
            from logitserve_training.datasets import sources
            from logitserve_training.progress import Reporter

            sources.load(chosen, data, Reporter())
            click.echo("data read; nothing trained (--dry-run)")
            return
        click.echo("loading TensorFlow", err=True)
        from logitserve_training import (
            pipeline,  # imported after the options are checked: it imports TensorFlow
        )

        published = pipeline.train(
            chosen,
            settings,
            data=data,
            models=models,
            name=name,
            if_better=if_better,
            resume=resume,
            take_best=finish,
            backbone=backbone,
        )
    click.echo(f"published {published.name} version {published.version}: {published.path}")
    click.echo(f"its report: {published.path.parent / 'report' / 'index.html'}")
    click.echo(f"serve it: logitserve serve --models {models}")
    for line in published.advice:
        click.echo(line)
