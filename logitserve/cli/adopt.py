"""`logitserve adopt`."""

import re
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from logitserve.adoption.terms import PRESETS, Answers, Color, Layout, Normalization, Terms
from logitserve.cli.options import extra, models_option
from logitserve.cli.pictures import in_folder
from logitserve.inference.card import Fit, Head

if TYPE_CHECKING:
    from logitserve.adoption.adopt import Adopted
    from logitserve.adoption.trials import Sample

SHOWN: Final = 20


class _Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers with commas between them."""

    name = "NUMBERS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        try:
            return tuple(float(number) for number in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not numbers with commas between them", param, ctx)


def _one_of(values: type[StrEnum]) -> click.Choice[str]:
    """A choice of an enumeration's values, which click would call by their names."""
    return click.Choice([value.value for value in values])


@click.command(
    "adopt",
    epilog="""\b
    Examples:
      logitserve adopt resnet.onnx --name cats --labels labels.txt --preset imagenet --fit crop
      logitserve adopt forest.onnx --name leaves --height 16 --width 16 --preset raw
      logitserve adopt model.keras --name flowers --labels rose,tulip --sample photos/

    docs/adopt.md says how each framework exports, and what is done to the file.""",
)
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--name", help="name of the model; by default the file's")
@click.option(
    "--head",
    type=_one_of(Head),
    help="softmax: one of many; sigmoid: any number of many; binary: one logit, yes or no. By "
    "default what the graph's answers show",
)
@click.option(
    "--labels",
    help="with commas between them, or a file: text, CSV or JSON; in the order of the scores. By "
    "default those that the file carries",
)
@click.option("--height", type=click.IntRange(min=1), help="where the graph does not say it")
@click.option("--width", type=click.IntRange(min=1), help="where the graph does not say it")
@click.option("--channels", type=click.IntRange(min=1), help="1 or 3; where the graph does not say")
@click.option("--layout", type=_one_of(Layout), help="where the channels of the input stand")
@click.option(
    "--fit",
    type=_one_of(Fit),
    help="how a picture of another size is made to fit; default: stretch. crop: the shorter side "
    "is scaled, and the center cut out",
)
@click.option(
    "--shorter-side",
    type=click.IntRange(min=1),
    help="pixels, for --fit crop; default: 256/224 of the input's",
)
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="what the bytes become: as for torchvision's networks, 0…1, −1…1, as for Caffe's and "
    "Keras's VGG and ResNet (BGR), 0…255, or as in PyTorch's MNIST example",
)
@click.option("--scale", type=float, help="bytes are divided by it: 255 gives 0…1")
@click.option("--mean", type=_Numbers(), help="then it is subtracted; one number or one a channel")
@click.option("--std", type=_Numbers(), help="then it divides; one number or one a channel")
@click.option("--color", type=_one_of(Color), help="which channels the graph takes, in which order")
@click.option("--output", help="the output that holds the scores, if there are several")
@click.option(
    "--answers",
    type=_one_of(Answers),
    help="what that output holds, where its numbers do not show it",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="the logits are divided by it",
)
@click.option(
    "--thresholds", type=_Numbers(), help="sigmoid only: one for all or one a label; default: 0.5"
)
@click.option("--description", default="", help="one sentence for the person who uses the model")
@click.option(
    "--license",
    default="NOASSERTION",
    show_default=True,
    help="SPDX identifier of the weights' license",
)
@click.option(
    "--sample",
    "samples",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="a picture of yours, or a folder of them, to run through both files before publishing",
)
@click.option(
    "--expect",
    multiple=True,
    help="the label of each --sample, in their order, or folders named by the labels: the presets "
    "and fits that you do not give are tried, and the best is taken",
)
@click.option(
    "--reference",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="a folder of pictures that are normal, which `logitserve serve --watch` compares with",
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
    scale: float | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    color: str | None,
    reference: Path | None,
    **terms: Any,
) -> None:
    """Give somebody else's ONNX FILE a card and publish it.

    FILE may also be what Keras saved: .keras, .h5 or a SavedModel.

    The published file takes bytes (height, width, channels) and gives logits, whatever the
    original took and gave: a softmax or sigmoid that ends it is found and cut off. Before it is
    published, its probabilities are compared with the original's on drawn pictures and on yours.
    """
    with extra("adopt"):
        from logitserve.adoption import adopt
        from logitserve.adoption.labels import given
    enumerations = {"head": Head, "layout": Layout, "fit": Fit, "answers": Answers}
    for option, values in enumerations.items():
        terms[option] = None if terms[option] is None else values(terms[option])
    chosen = None if color is None else Color(color)
    told = Terms(
        name=re.sub(r"[^a-z0-9._-]+", "-", file.stem.lower()).strip("-._")
        if name is None
        else name,
        labels=None if labels is None else given(labels),
        normalization=_normalization(preset, scale, mean, std, chosen),
        **terms,
    )
    adopted = adopt.adopt(
        file,
        told,
        models=models,
        samples=_samples(samples, expect),
        color=chosen,
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
        click.echo(f"  the graph takes {card.batch} at a time, so pictures are run in such parts")
    click.echo(
        f"  probabilities differ from the original's by at most {adopted.difference:.1e} (drawn "
        f"pictures and samples); the card allows {card.tolerance:.1e} on another machine"
    )
    click.echo(f"try it: logitserve serve --models {models}")
    click.echo(f"  curl -F file=@PICTURE http://localhost:8000/models/{card.name}/predict")


def _samples(paths: tuple[Path, ...], expected: tuple[str, ...]) -> list["Sample"]:
    """The pictures with their labels: `--expect`, or the folders' names where they are by class."""
    from logitserve.adoption.trials import Sample

    if expected and len(expected) != len(paths):
        raise click.UsageError(
            f"{len(paths)} times --sample, but {len(expected)} times --expect: one for each"
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


def _normalization(
    preset: str | None,
    scale: float | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    color: Color | None,
) -> Normalization | None:
    """What was said of the numbers; options beat the preset."""
    if preset is None and scale is None and mean is None and std is None:
        return None
    base = PRESETS[preset] if preset else Normalization()
    chosen = replace(
        base,
        scale=base.scale if scale is None else scale,
        mean=mean or base.mean,
        std=std or base.std,
        color=color or base.color,
    )
    if not chosen.scale > 0 or not min(chosen.std) > 0:
        raise click.UsageError("--scale and --std must be above 0")
    return chosen
