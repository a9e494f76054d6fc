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
    """Parse `64` or `60x80` (height first) into (height, width)."""
    found = re.fullmatch(r"(\d+)(?:[x×](\d+))?", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is neither a number of pixels nor HEIGHTxWIDTH")
    return int(found[1]), int(found[2] or found[1])


def _names(text: str) -> tuple[str, ...]:
    """Split names at commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


BACKBONE_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "backbone": {
        "metavar": "FILE|keras:NAME",
        "help": "use features of a pretrained network: an ONNX file, a saved Keras model, or "
        "keras:NAME such as keras:EfficientNetV2B0, with its weights in Keras's cache",
    },
    "features": {
        "metavar": "TENSOR",
        "help": "feature tensor of the backbone; default: the input of its last linear layer",
    },
    "preset": {
        "help": "normalization for the backbone, as for `adopt`; default: imagenet, or the one of "
        "keras:NAME",
    },
    "license": {"help": "SPDX identifier of the backbone's license [NOASSERTION]"},
}


def recipe_options(command: Command) -> Command:
    """Add the options of recipes and of the recipe `folder` to a command."""
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
        "applies to a network from scratch; with --backbone, a linear head is cross-validated",
    ),
    "folds": (
        ("test_split", "validation_split", "if_better"),
        "applies to a split, and with --folds each picture is tested on: omit one of the two",
    ),
}  # fmt: skip
"""Option → options that have no effect beside it, and the reason."""


def require_used(given: dict[str, Any]) -> None:
    """Refuse options that have no effect.

    Raises:
        click.UsageError: a given option (not None) has no effect.
    """
    for option, (useless, reason) in _USELESS.items():
        for name in useless:
            if given[option] is not None and given[name] is not None:
                raise click.UsageError(f"--{name.replace('_', '-')} {reason}")


def backbone_of(given: dict[str, Any], recipe: "Recipe", data: Path | None) -> "Backbone | None":
    """Return the backbone of the options, cut before its last linear layer.

    Its input size is the requested one, else a larger one of the pictures' aspect ratio if the
    network runs on it, else its own.

    Raises:
        AdoptionError: the backbone cannot be used.
        click.UsageError: an option of the backbone is given without one.
    """
    source = given.pop("backbone")
    if source is None:
        if told := [name for name, value in given.items() if value is not None]:
            raise click.UsageError(f"--{told[0]} belongs to a backbone: give --backbone")
        if recipe.folder is not None and recipe.folder.folds is not None:
            from logitserve_training.recipes import FOLDS_NEED_A_BACKBONE

            raise click.UsageError(FOLDS_NEED_A_BACKBONE)
        return None
    from logitserve.adoption import backbone
    from logitserve.adoption.options import PRESETS
    from logitserve.errors import AdoptionError
    from logitserve_training.backbone import Backbone
    from logitserve_training.datasets import decoding

    preset = given["preset"]
    if preset is not None and preset not in PRESETS:
        raise click.UsageError(f"--preset {preset} does not exist; known: {', '.join(PRESETS)}")
    if recipe.folder is None or data is None:
        raise click.UsageError("--backbone works only with the recipe 'folder' and --data")
    asked = recipe.folder.image_size
    found = backbone.read(source, tensor=given["features"], preset=preset, size=asked)
    if asked is None:
        size = decoding.enlarged(data, recipe.folder, found.size)
        with suppress(AdoptionError):  # the network has a fixed input size
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
    """Return the recipe with the options of the command line.

    Raises:
        OptionError: a value is invalid.
        click.UsageError: the recipe has no such options.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if recipe.folder is None:
        if given or network:
            first = next(iter(given), "network").replace("_", "-")
            raise click.UsageError(f"--{first} works only with the recipe 'folder'")
        return recipe
    folder = replace(recipe.folder, **given)
    return replace(recipe, network=network or recipe.network, folder=folder)
