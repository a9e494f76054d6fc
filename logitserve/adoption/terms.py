"""What the owner of a stranger's file says of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

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

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    """One number, or one a channel."""
    std: tuple[float, ...] = (1.0,)
    color: Color = Color.RGB


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

    name: str
    head: Head | None = None
    labels: tuple[str, ...] | None = None
    height: int | None = None
    width: int | None = None
    channels: int | None = None
    layout: Layout | None = None
    fit: Fit | None = None
    shorter_side: int | None = None
    """What the shorter side is scaled to before the center is cut out, pixels; for `Fit.CROP`."""
    normalization: Normalization | None = None
    output: str | None = None
    """Name of the output that holds the answers."""
    answers: Answers | None = None
    temperature: float = 1.0
    thresholds: tuple[float, ...] | None = None
    description: str = ""
    license: str = "NOASSERTION"
