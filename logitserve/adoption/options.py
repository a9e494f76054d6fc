"""The owner's description of a third-party file.

Fields of `AdoptOptions` and `Normalization` are annotated with the help texts of their options.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from logitserve.inference.card import Fit, Head


class Layout(StrEnum):
    """Position of the channels in the input."""

    NHWC = "nhwc"
    NCHW = "nchw"


class Color(StrEnum):
    """Channels of the input and their order."""

    RGB = "rgb"
    BGR = "bgr"
    """As read by OpenCV and used by Caffe's networks."""
    GRAY = "gray"
    """Luminance, repeated if the graph takes three channels."""


class Answers(StrEnum):
    """Contents of the graph's output."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"


@dataclass(frozen=True, slots=True)
class Normalization:
    """Normalization of a byte per channel: (byte / scale − mean) / std."""

    scale: Annotated[float, "divisor of the bytes: 255 gives 0…1"] = 1.0
    mean: Annotated[
        tuple[float, ...], "subtracted after scaling; one number or one per channel", "NUMBERS"
    ] = (0.0,)
    std: Annotated[
        tuple[float, ...], "divisor after the mean; one number or one per channel", "NUMBERS"
    ] = (1.0,)
    color: Annotated[Color, "channels of the input, and their order"] = Color.RGB


PRESETS: Final[Mapping[str, Normalization]] = {
    "imagenet": Normalization(255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "0-1": Normalization(255),
    "-1..1": Normalization(127.5, (1.0,)),
    "caffe": Normalization(1.0, (103.939, 116.779, 123.68), color=Color.BGR),
    "raw": Normalization(),
    "mnist": Normalization(255, (0.1307,), (0.3081,)),
}
"""Normalizations of torchvision's networks; 0…1; −1…1 (MobileNet, Inception); Caffe's and
Keras's VGG and ResNet; 0…255; PyTorch's MNIST example."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptOptions:
    """The owner's options; values that the graph contains may be omitted."""

    name: Annotated[str, "name of the model; default: the file's name"]
    head: Annotated[
        Head | None,
        "softmax: exactly one label; sigmoid: any number of labels; binary: one logit, yes or no. "
        "Default: detected from the graph's answers",
    ] = None
    labels: Annotated[
        tuple[str, ...] | None,
        "separated by commas, or a file: text, CSV or JSON; in the order of the scores. Default: "
        "the labels in the file",
        "TEXT",
    ] = None
    height: Annotated[int | None, "height of the input, if the graph leaves it open"] = None
    width: Annotated[int | None, "width of the input, if the graph leaves it open"] = None
    channels: Annotated[int | None, "1 or 3, if the graph leaves it open"] = None
    layout: Annotated[Layout | None, "position of the channels in the input"] = None
    fit: Annotated[
        Fit | None,
        "resizing of a picture of another size; default: stretch. crop: scale the shorter side, "
        "then cut out the center",
    ] = None
    shorter_side: Annotated[
        int | None, "pixels, for --fit crop; default: 256/224 of the input's shorter side"
    ] = None
    normalization: Normalization | None = None
    output: Annotated[str | None, "output with the scores, if there are several"] = None
    answers: Annotated[Answers | None, "contents of the output, if its numbers are ambiguous"] = (
        None
    )
    temperature: Annotated[float, "divisor of the logits  [default: 1.0]"] = 1.0
    thresholds: Annotated[
        tuple[float, ...] | None,
        "sigmoid only: one for all labels or one per label; default: 0.5",
        "NUMBERS",
    ] = None
    description: Annotated[str, "one sentence for the users of the model"] = ""
    license: Annotated[str, "SPDX identifier of the weights' license  [default: NOASSERTION]"] = (
        "NOASSERTION"
    )
