"""`logitserve adopt`."""

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from logitserve.adoption.options import PRESETS, AdoptOptions, Normalization
from logitserve.cli.options import extra, in_folder, models_option, options_of

if TYPE_CHECKING:
    from logitserve.adoption.adopt import Adopted
    from logitserve.adoption.preprocessing_search import Sample

SHOWN: Final = 20


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} must be numbers separated by commas") from None


TYPES: Final = {
    "labels": str,
    "thresholds": _numbers,
    "temperature": click.FloatRange(min=0, min_open=True),
    "mean": _numbers,
    "std": _numbers,
    **dict.fromkeys(("height", "width", "channels", "shorter_side"), click.IntRange(min=1)),
}


@click.command(
    "adopt",
    epilog="""\b
    Examples:
      logitserve adopt resnet.onnx --name cats --labels labels.txt --preset imagenet --fit crop
      logitserve adopt forest.onnx --name leaves --height 16 --width 16 --preset raw
      logitserve adopt model.keras --name flowers --labels rose,tulip --sample photos/

    docs/adopt.md describes the export from each framework, and the changes to the file.""",
)
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@options_of(AdoptOptions, TYPES)
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="normalization of the bytes: of torchvision's networks, 0…1, −1…1, of Caffe's and Keras's "
    "VGG and ResNet (BGR), 0…255, or of PyTorch's MNIST example",
)
@options_of(Normalization, TYPES)
@click.option(
    "--sample",
    "samples",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="a picture or a folder of pictures to run through both files before publishing",
)
@click.option(
    "--expect",
    multiple=True,
    help="the label of each --sample, in their order, or folders named by the labels: presets and "
    "fits that are not given are tried, and the best is used",
)
@click.option(
    "--reference",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="a folder of in-distribution pictures, the reference of `logitserve serve --watch`",
)
@models_option
def command(
    file: Path,
    *,
    models: Path,
    name: str | None,
    labels: str | None,
    samples: tuple[Path, ...],
    expect: tuple[str, ...],
    preset: str | None,
    reference: Path | None,
    **terms: Any,
) -> None:
    """Publish a third-party ONNX FILE with a model card.

    FILE may also be a saved Keras model: .keras, .h5 or a SavedModel.

    The published file takes bytes (height, width, channels) and returns logits, whatever the
    original's input and output: a final softmax or sigmoid is found and cut off. Before it is
    published, its probabilities are compared with the original's on drawn pictures and on samples.
    """
    with extra("adopt"):
        from logitserve.adoption import adopt
        from logitserve.adoption.labels import given
    numbers = {one.name: terms.pop(one.name) for one in fields(Normalization)}
    told = AdoptOptions(
        name=re.sub(r"[^a-z0-9._-]+", "-", file.stem.lower()).strip("-._")
        if name is None
        else name,
        labels=None if labels is None else given(labels),
        normalization=_normalization(preset, numbers),
        **{name: value for name, value in terms.items() if value is not None},
    )
    adopted = adopt.adopt(
        file,
        told,
        models=models,
        samples=_samples(samples, expect),
        color=numbers["color"],
        reference=() if reference is None else in_folder(reference, recursive=True),
    )
    _tell(adopted, models)


def _tell(adopted: "Adopted", models: Path) -> None:
    card, ending = adopted.card, adopted.ending
    for answer in adopted.answers[:SHOWN]:
        click.echo(f"  {answer.picture}: {answer.label} {answer.probability:.4f}")
    if adopted.trial:
        click.echo(f"  {adopted.trial}")
    cut = f" without its {ending.cut}" if ending.cut else ""
    click.echo(f"published {card.name} version {card.version}{cut}: {adopted.path}")
    click.echo(f"  head {card.head}: {ending.note}")
    if card.batch is not None:
        click.echo(f"  the batch size is fixed at {card.batch}: pictures are run in such parts")
    click.echo(
        f"  probabilities differ from the original's by at most {adopted.difference:.1e} (drawn "
        f"pictures and samples); the card allows {card.tolerance:.1e} on another machine"
    )
    click.echo(f"try it: logitserve serve --models {models}")
    click.echo(f"  curl -F file=@PICTURE http://localhost:8000/models/{card.name}/predict")


def _samples(paths: tuple[Path, ...], expected: tuple[str, ...]) -> list["Sample"]:
    """Return the pictures with their labels, from `--expect` or the names of class folders."""
    from logitserve.adoption.preprocessing_search import Sample

    if expected and len(expected) != len(paths):
        raise click.UsageError(
            f"{len(paths)} times --sample, but {len(expected)} times --expect: give one for each"
        )
    samples = []
    for path, label in zip(paths, expected or [None] * len(paths), strict=True):
        if not path.is_dir():
            samples.append(Sample(path, label))
            continue
        folders = sorted(entry for entry in path.iterdir() if entry.is_dir())
        if label is None and folders:
            samples += [Sample(file, one.name) for one in folders for file in in_folder(one)]
        else:
            samples += [Sample(file, label) for file in in_folder(path)]
    return samples


def _normalization(preset: str | None, numbers: dict[str, Any]) -> Normalization | None:
    """Return the normalization, None if only the color was given; options override the preset."""
    given = {name: value for name, value in numbers.items() if value is not None}
    if preset is None and not given.keys() - {"color"}:
        return None
    chosen = replace(PRESETS[preset] if preset else Normalization(), **given)
    if not chosen.scale > 0 or not min(chosen.std) > 0:
        raise click.UsageError("--scale and --std must be above 0")
    return chosen
