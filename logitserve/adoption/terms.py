"""What the owner of a stranger's file says of it.

Fields of `Terms` and `Normalization` are annotated with the help of their options.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from logitserve.inference.card import Fit, Head


class Layout(StrEnum):
    """Where the channels of a picture stand."""

    NHWC = "nhwc"
    NCHW = "nchw"


class Color(StrEnum):
    """Which channels the graph takes, and in which order."""

    RGB = "rgb"
    BGR = "bgr"
    """As OpenCV reads pictures, and Caffe's networks take them."""
    GRAY = "gray"
    """Luminance, repeated where the graph takes three channels."""


class Answers(StrEnum):
    """What the graph's output holds."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"


@dataclass(frozen=True, slots=True)
class Normalization:
    """Which number a byte becomes: (byte / scale − mean) / std, in the order of the channels."""

    scale: Annotated[float, "bytes are divided by it: 255 gives 0…1"] = 1.0
    mean: Annotated[
        tuple[float, ...], "then it is subtracted; one number or one a channel", "NUMBERS"
    ] = (0.0,)
    std: Annotated[tuple[float, ...], "then it divides; one number or one a channel", "NUMBERS"] = (
        1.0,
    )
    color: Annotated[Color, "which channels the graph takes, in which order"] = Color.RGB


PRESETS: Final[Mapping[str, Normalization]] = {
    "imagenet": Normalization(255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "0-1": Normalization(255),
    "-1..1": Normalization(127.5, (1.0,)),
    "caffe": Normalization(1.0, (103.939, 116.779, 123.68), color=Color.BGR),
    "raw": Normalization(),
    "mnist": Normalization(255, (0.1307,), (0.3081,)),
}
"""What torchvision's networks are trained with, 0…1, −1…1 (MobileNet, Inception), Caffe's and
Keras's VGG and ResNet, 0…255, and PyTorch's MNIST example."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the owner says; what the graph shows itself may be left out."""

    name: Annotated[str, "name of the model; by default the file's"]
    head: Annotated[
        Head | None,
        "softmax: one of many; sigmoid: any number of many; binary: one logit, yes or no. By "
        "default what the graph's answers show",
    ] = None
    labels: Annotated[
        tuple[str, ...] | None,
        "with commas between them, or a file: text, CSV or JSON; in the order of the scores. By "
        "default those that the file carries",
        "TEXT",
    ] = None
    height: Annotated[int | None, "where the graph does not say it"] = None
    width: Annotated[int | None, "where the graph does not say it"] = None
    channels: Annotated[int | None, "1 or 3; where the graph does not say"] = None
    layout: Annotated[Layout | None, "where the channels of the input stand"] = None
    fit: Annotated[
        Fit | None,
        "how a picture of another size is made to fit; default: stretch. crop: the shorter side "
        "is scaled, and the center cut out",
    ] = None
    shorter_side: Annotated[
        int | None, "pixels, for --fit crop; default: 256/224 of the input's"
    ] = None
    normalization: Normalization | None = None
    output: Annotated[str | None, "the output that holds the scores, if there are several"] = None
    answers: Annotated[
        Answers | None, "what that output holds, where its numbers do not show it"
    ] = None
    temperature: Annotated[float, "the logits are divided by it  [default: 1.0]"] = 1.0
    thresholds: Annotated[
        tuple[float, ...] | None,
        "sigmoid only: one for all or one a label; default: 0.5",
        "NUMBERS",
    ] = None
    description: Annotated[str, "one sentence for the person who uses the model"] = ""
    license: Annotated[str, "SPDX identifier of the weights' license  [default: NOASSERTION]"] = (
        "NOASSERTION"
    )
