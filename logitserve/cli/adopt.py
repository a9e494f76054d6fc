"""`logitserve adopt`."""

from pathlib import Path
from typing import Any, Final

import click

from logitserve.adoption.terms import PRESETS, Layout, Normalization, Terms
from logitserve.cli.options import extra, models_option
from logitserve.cli.pictures import in_folder
from logitserve.inference.card import Fit, Head

SHOWN_SAMPLES: Final = 20


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


@click.command(
    "adopt",
    epilog="""\b
    Examples:
      logitserve adopt resnet.onnx --name cats --head softmax --labels labels.txt --preset imagenet
      logitserve adopt mlp.onnx --name digits8 --head softmax --strip-activation \\
          --height 8 --width 8 --preset unit
      logitserve adopt forest.onnx --name leaves --head softmax --log-probabilities \\
          --height 16 --width 16 --preset bytes --samples leaves/

    softmax(log p) = p: with --log-probabilities the served probabilities are the graph's own.""",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", required=True, help="name of the model")
@click.option(
    "--head",
    required=True,
    type=click.Choice([head.value for head in Head]),
    help="softmax: one of many; sigmoid: any number of many; binary: one logit, yes or no",
)
@click.option(
    "--labels",
    help="with commas between them, or a file with one a line; in the order of the logits. "
    "Without it, those that scikit-learn put into the graph",
)
@click.option("--height", type=click.IntRange(min=1), help="where the graph does not say it")
@click.option("--width", type=click.IntRange(min=1), help="where the graph does not say it")
@click.option("--channels", type=click.IntRange(min=1), help="1 or 3; where the graph does not say")
@click.option(
    "--layout",
    type=click.Choice([layout.value for layout in Layout]),
    help="where the channels of the input stand",
)
@click.option(
    "--fit",
    type=click.Choice([fit.value for fit in Fit]),
    default=Fit.STRETCH.value,
    show_default=True,
    help="how a picture of another size is made to fit",
)
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="what the bytes become: 0…255, 0…1, −1…1, or standardized as in PyTorch's MNIST example "
    "or for torchvision's networks",
)
@click.option("--scale", type=float, help="bytes are divided by it: 255 gives 0…1")
@click.option("--mean", type=_Numbers(), help="then it is subtracted; one number or one a channel")
@click.option("--std", type=_Numbers(), help="then it divides; one number or one a channel")
@click.option("--output", help="the output that holds the answer, if there are several")
@click.option(
    "--strip-activation", is_flag=True, help="cut off the softmax or sigmoid that ends the graph"
)
@click.option(
    "--log-probabilities",
    is_flag=True,
    help="the graph answers probabilities that sum to 1 and no softmax makes them (a forest, a "
    "Bayes classifier): their logarithms serve as logits",
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
    "--samples",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="folder of your pictures to run through both files before publishing",
)
@models_option
def command(
    file: Path,
    *,
    models: Path,
    samples: Path | None,
    labels: str | None,
    preset: str | None,
    scale: float | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    **terms: Any,
) -> None:
    """Give somebody else's ONNX FILE a card and publish it.

    The published file takes bytes (height, width, channels) and gives logits, whatever the
    original took: floats, channels first, or a flat row. Before it is published, its probabilities
    are compared with the original's on drawn pictures and on your samples.
    """
    with extra("adopt"):
        from logitserve.adoption import adopt
    terms["head"] = Head(terms["head"])
    terms["fit"] = Fit(terms["fit"])
    terms["layout"] = Layout(terms["layout"]) if terms["layout"] else None
    terms["labels"] = None if labels is None else _labels(labels)
    terms["normalization"] = _normalization(preset, scale, mean, std)
    adopted = adopt.adopt(
        file,
        Terms(**terms),
        models=models,
        samples=[] if samples is None else in_folder(samples),
    )
    for sample in adopted.samples[:SHOWN_SAMPLES]:
        click.echo(f"  {sample.file.name}: {sample.label} {sample.probability:.4f}")
    tried = f", {len(adopted.samples)} samples" if adopted.samples else ""
    cut = f" without its {adopted.cut}" if adopted.cut else ""
    card = adopted.card
    click.echo(f"published {card.name} version {card.version}{cut}: {adopted.path}")
    click.echo(
        f"  probabilities differ from the original's by at most {adopted.difference:.1e} "
        f"({len(card.goldens)} drawn pictures{tried})"
    )


def _labels(text: str) -> tuple[str, ...]:
    """The labels: a file's lines, or the option's own."""
    path = Path(text)
    try:
        given = path.read_text().splitlines() if path.is_file() else text.split(",")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--labels {text} cannot be read: {error}") from error
    return tuple(label.strip() for label in given if label.strip())


def _normalization(
    preset: str | None,
    scale: float | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
) -> Normalization | None:
    """What was said of the numbers; options beat the preset."""
    if preset is None and scale is None and mean is None and std is None:
        return None
    base = PRESETS[preset] if preset else Normalization()
    chosen = Normalization(
        base.scale if scale is None else scale, mean or base.mean, std or base.std
    )
    if not chosen.scale > 0 or not min(chosen.std) > 0:
        raise click.UsageError("--scale and --std must be above 0")
    return chosen
