"""What the owner of a stranger's ONNX file says of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from logitserve.inference.card import Fit, Head


class Layout(StrEnum):
    """Where the channels of a picture stand."""

    NHWC = "nhwc"
    NCHW = "nchw"


@dataclass(frozen=True, slots=True)
class Normalization:
    """Which number a byte becomes: (byte / scale − mean) / std."""

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    """One number, or one a channel."""
    std: tuple[float, ...] = (1.0,)

    @property
    def is_none(self) -> bool:
        """Whether bytes stay what they are."""
        return self == Normalization()


PRESETS: Final[Mapping[str, Normalization]] = {
    "bytes": Normalization(),
    "unit": Normalization(255),
    "symmetric": Normalization(127.5, (1.0,), (1.0,)),
    "mnist": Normalization(255, (0.1307,), (0.3081,)),
    "imagenet": Normalization(255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""0…255, 0…1, −1…1, and what PyTorch's examples and torchvision's networks are trained with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the owner says of the file; what the graph says itself may be left out."""

    name: str
    head: Head
    labels: tuple[str, ...] | None = None
    height: int | None = None
    width: int | None = None
    channels: int | None = None
    layout: Layout | None = None
    fit: Fit = Fit.STRETCH
    normalization: Normalization | None = None
    output: str | None = None
    """Name of the output that holds the answer."""
    strip_activation: bool = False
    """Whether an activation may be cut off."""
    log_probabilities: bool = False
    """Whether logarithms of the answer serve as the logits of a softmax."""
    temperature: float = 1.0
    thresholds: tuple[float, ...] | None = None
    description: str = ""
    license: str = "NOASSERTION"
