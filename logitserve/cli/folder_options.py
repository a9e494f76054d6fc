"""The options of `logitserve train folder`."""

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from logitserve.cli.options import Command, OneOf, options_of

if TYPE_CHECKING:
    from logitserve_training.backbone import Backbone
    from logitserve_training.recipes import NetworkName, Recipe


def _size(text: str) -> tuple[int, int]:
    """`64` or `60x80`, height first → (height, width)."""
    found = re.fullmatch(r"(\d+)(?:[x×](\d+))?", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is neither a number of pixels nor HEIGHTxWIDTH")
    return int(found[1]), int(found[2] or found[1])


def _names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


BACKBONE_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "backbone": {
        "metavar": "FILE|keras:NAME",
        "help": "learn on the features of a trained network: an ONNX file, what Keras saved, or "
        "keras:EfficientNetV2B0 and the like, whose weights must be in Keras's cache",
    },
    "features": {
        "metavar": "TENSOR",
        "help": "of the backbone; by default what its last linear layer takes",
    },
    "preset": {
        "help": "what the bytes become for the backbone, as for `adopt`; by default imagenet, or "
        "what keras:NAME expects",
    },
    "license": {"help": "SPDX identifier of the backbone's license [NOASSERTION]"},
}


def recipe_options(command: Command) -> Command:
    """Give a command the options of recipes, and those of the recipe `folder`."""
    from logitserve_training.recipes import FolderOptions, NetworkName, Options

    types = {"image_size": _size, "test_groups": _names}
    for name, settings in reversed(BACKBONE_OPTIONS.items()):
        text = f"folder: {settings['help']}"
        command = click.option(f"--{name}", **settings | {"help": text})(command)
    command = options_of(FolderOptions, types, "folder: ")(command)
    command = click.option("--network", type=OneOf(NetworkName), help="folder: which one")(command)
    return options_of(Options, {})(command)


_USELESS: Final = {
    "backbone": (
        ("network", "optimizer", "learning_rate", "epochs", "batch_size", "weight_decay", "seed",
         "finish"),
        "is of a network from scratch; with --backbone, a linear head is cross-validated",
    ),
    "folds": (
        ("test_split", "validation_split", "if_better"),
        "is of parts, and with --folds each picture is tested on: leave one out",
    ),
}  # fmt: skip
"""Option → those that would change nothing beside it, and why."""


def require_used(given: dict[str, Any]) -> None:
    """Refuse options that would change nothing.

    Raises:
        click.UsageError: one was given, as others than None are.
    """
    for option, (useless, reason) in _USELESS.items():
        for name in useless:
            if given[option] is not None and given[name] is not None:
                raise click.UsageError(f"--{name.replace('_', '-')} {reason}")


def backbone_of(given: dict[str, Any], recipe: "Recipe", data: Path | None) -> "Backbone | None":
    """The backbone that was named, cut before its last linear layer.

    It takes pictures of the size that was asked for, else a larger one of the pictures' aspect if
    it runs on that, else its own.

    Raises:
        AdoptionError: it cannot be used.
        click.UsageError: an option about a backbone, and none is named.
    """
    source = given.pop("backbone")
    if source is None:
        if told := [name for name, value in given.items() if value is not None]:
            raise click.UsageError(f"--{told[0]} is of a backbone: name one with --backbone")
        if recipe.folder is not None and recipe.folder.folds is not None:
            from logitserve_training.recipes import FOLDS_NEED_A_BACKBONE

            raise click.UsageError(FOLDS_NEED_A_BACKBONE)
        return None
    from logitserve.adoption import backbone
    from logitserve.adoption.terms import PRESETS
    from logitserve.errors import AdoptionError
    from logitserve_training.backbone import Backbone
    from logitserve_training.datasets import decoding

    preset = given["preset"]
    if preset is not None and preset not in PRESETS:
        raise click.UsageError(f"--preset {preset}: there is {', '.join(PRESETS)}")
    if recipe.folder is None or data is None:
        raise click.UsageError("--backbone is for the recipe 'folder', with --data")
    asked = recipe.folder.image_size
    found = backbone.read(source, tensor=given["features"], preset=preset, size=asked)
    if asked is None:
        size = decoding.enlarged(data, recipe.folder, found.size)
        with suppress(AdoptionError):  # it takes none but its own
            found = backbone.read(source, tensor=given["features"], preset=preset, size=size)
    name = source if source.startswith("keras:") else Path(source).name
    settings = {"file": name, "features": found.tensor, "preset": found.preset}
    license_name = given["license"] or found.license or "NOASSERTION"
    click.echo(
        f"backbone {name}: {found.size[0]}×{found.size[1]} pixels (--image-size), features "
        f"{found.tensor} (--features), bytes as {found.preset} (--preset), license {license_name} "
        "(--license)",
        err=True,
    )
    made = Backbone(found.graph, dict(settings), license_name)
    made.settings["sha256"] = made.digest
    return made


def with_folder_options(
    recipe: "Recipe", network: "NetworkName | None", options: dict[str, Any]
) -> "Recipe":
    """The recipe with what was said on the command line.

    Raises:
        OptionError: a value that cannot be used.
        click.UsageError: another recipe, which has no such options.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if recipe.folder is None:
        if given or network:
            first = next(iter(given), "network").replace("_", "-")
            raise click.UsageError(f"--{first} is for the recipe 'folder'")
        return recipe
    folder = replace(recipe.folder, **given)
    return replace(recipe, network=network or recipe.network, folder=folder)
