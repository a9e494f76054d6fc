"""The model card: the metadata for serving a model, stored inside its ONNX file."""

from datetime import datetime
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Final, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from logitserve.inference.errors import CardInvalidError

SCHEMA_VERSION: Final = 1
METADATA_KEY = "logitserve.card"
"""Key of the ONNX `metadata_props` entry with the card as JSON."""

ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
"""Safe in folder names and URLs: lower-case letters, digits, dot, underscore, hyphen."""

ModelVersion = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,17}$")]
"""A positive whole number without leading zeros; the largest is the latest."""

Probability = Annotated[float, Field(ge=0, le=1)]
Thresholds = Annotated[tuple[Annotated[float, Field(ge=-1, le=1)], ...], Field(max_length=59)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256, hexadecimal."""


class Head(StrEnum):
    """The function that turns logits into probabilities."""

    SOFTMAX = "softmax"
    """Multiclass: K logits, K probabilities that sum to 1."""
    SIGMOID = "sigmoid"
    """Multilabel: K logits, K independent probabilities."""
    BINARY = "binary"
    """Binary: one logit z, two labels with probabilities [1 - sigmoid(z), sigmoid(z)]."""


class Fit(StrEnum):
    """How a picture of another size is fitted to the network's input size."""

    STRETCH = "stretch"
    """Scale each side independently; the aspect ratio may change."""
    PAD = "pad"
    """Scale both sides by one factor and pad with black."""
    CROP = "crop"
    """Scale the shorter side to `shorter_side` and crop the center, as torchvision does."""
    DIGIT = "digit"
    """Crop, scale and center handwriting as in MNIST."""


class CardPart(BaseModel):
    """Base class of the card and its parts: immutable, no unknown fields, finite numbers only."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )


class InputSpec(CardPart):
    """The network's input: uint8, height × width × channels."""

    height: PositiveInt = Field(description="pixels")
    width: PositiveInt = Field(description="pixels")
    channels: Literal[1, 3] = Field(description="1: luminance; 3: red, green, blue")
    fit: Fit = Field(description="how a picture of another size is fitted")
    as_sent: bool = Field(
        default=False,
        description="fit 'digit' only: a picture of the network's own size is cropped only if it "
        "is dark ink on even paper; the network was trained on all others as they are",
    )
    shorter_side: PositiveInt | None = Field(
        default=None,
        description="fit 'crop' only: length of the scaled shorter side in pixels; null: the "
        "larger of height and width",
    )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.height, self.width, self.channels

    @model_validator(mode="after")
    def _fit_suits_channels(self) -> Self:
        if self.fit is Fit.DIGIT and self.channels != 1:
            raise ValueError("channels: fit 'digit' needs 1 (luminance)")
        if self.as_sent and self.fit is not Fit.DIGIT:
            raise ValueError(f"as_sent: not allowed with fit {self.fit.value!r}")
        if self.shorter_side is not None and self.fit is not Fit.CROP:
            raise ValueError(f"shorter_side: only for fit 'crop', not for {self.fit.value!r}")
        if self.shorter_side is not None and self.shorter_side < max(self.height, self.width):
            raise ValueError("shorter_side: must be at least the larger of height and width")
        return self


def first_reason(error: ValidationError) -> str:
    """Return the place of the first error, and its text."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "card"
    raised = first.get("ctx", {}).get("error")  # its text lacks pydantic's prefix "Value error,"
    return f"{where}: {raised if isinstance(raised, ValueError) else first['msg']}"


class Golden(CardPart):
    """A picture with its logits after training, to verify that the file computes correctly."""

    image: bytes = Field(description="an encoded picture (PNG); base64 in JSON")
    logits: tuple[float, ...] = Field(
        min_length=1, description="raw logits, before calibration; the novelty is last"
    )


class Adoption(CardPart):
    """The origin of an adopted model."""

    file: str = Field(description="name of the original file")
    ending: str = Field(description="interpretation of its outputs, with the reason")


class DatasetInfo(CardPart):
    """The data that the model was trained and tested on."""

    name: str
    sha256: Digest = Field(description="digest over the data set's files")
    train: PositiveInt = Field(description="number of training pictures")
    validation: PositiveInt = Field(description="number of pictures for model selection")
    test: PositiveInt = Field(description="number of pictures used only for `metrics`")
    parts: dict[Literal["train", "validation", "test"], Digest] = Field(
        description="digest over the pictures of each part and their labels"
    )
    folds: PositiveInt | None = Field(
        default=None,
        description="each part is all pictures, and `metrics` are cross-validated over so many "
        "folds; null: the parts are disjoint",
    )


class TrainingInfo(CardPart):
    """Recipe, seed and settings of the training, to reproduce it."""

    recipe: str
    seed: int
    settings: dict[str, JsonValue] = Field(description="the recipe's options as used")
    libraries: dict[str, str] = Field(description="library name → version")


class Scores(CardPart):
    """Errors of probabilities; lower is better."""

    nll: float = Field(ge=0, description="mean negative log-likelihood, nats")
    brier: float = Field(ge=0, description="mean squared error, summed over the labels")
    ece: Probability = Field(description="expected calibration error over 15 bins")


class LabelScaling(CardPart):
    """Platt scaling of one label: the calibrated logit is scale × logit + bias (Platt 1999)."""

    scale: float = Field(gt=0)
    bias: float


class Calibration(CardPart):
    """Errors of the probabilities on held-out pictures, before and after calibration."""

    pictures: PositiveInt = Field(description="number of pictures in the validation part")
    before: Scores
    after: Scores = Field(description="with the card's `temperature` or `scaling`")


COVERAGES: Final = (
    *(step / 100 for step in range(50, 99)),
    *(step / 1000 for step in range(990, 1000)),
)
"""The coverages that thresholds are stored for: 0.50, 0.51, …, 0.99, 0.991, …, 0.999."""
LEAST_OF_LABEL: Final = 50
"""Minimum number of held-out pictures for a label to have its own thresholds."""


class Conformal(CardPart):
    """Thresholds for prediction sets; see `logitserve.inference.conformal`.

    Each row of thresholds follows `COVERAGES`, up to the coverage that its pictures allow.
    """

    pictures: PositiveInt = Field(description="held-out pictures ranked for the thresholds")
    thresholds: Thresholds = Field(description="largest score in the set, for all pictures")
    pictures_by_label: tuple[NonNegativeInt, ...] = Field(description="these pictures by label")
    thresholds_by_label: tuple[Thresholds, ...] = Field(
        description="thresholds of each label; empty for fewer than 50 pictures"
    )

    @model_validator(mode="after")
    def _sets_are_nested(self) -> Self:
        for row in (self.thresholds, *self.thresholds_by_label):
            if any(more < less for less, more in pairwise(row)):
                raise ValueError("thresholds: must not decrease with the coverage")
        if self.thresholds_by_label and (
            len(self.thresholds_by_label) != len(self.pictures_by_label)
        ):
            raise ValueError("thresholds_by_label: there must be one row per label")
        return self

    @cached_property
    def table(self) -> npt.NDArray[np.float64]:
        """Thresholds of each label at each coverage that all pictures together allow.

        `[coverages, labels]`. A label with too few pictures for a coverage has the threshold of all
        pictures; thresholds never decrease with the coverage.
        """
        of_all = np.array(self.thresholds)
        columns = [
            np.concatenate([row[: len(of_all)], of_all[len(row) :]])
            for row in self.thresholds_by_label or [()] * len(self.pictures_by_label)
        ]
        return np.maximum.accumulate(np.stack(columns, axis=1), axis=0)


class Ink(CardPart):
    """Ranges of a few statistics of the prepared training pictures.

    See `logitserve.inference.ink`. A picture outside the ranges is unknown.
    """

    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    pictures: PositiveInt = Field(description="number of pictures that the ranges were measured on")


class Energy(CardPart):
    """Out-of-distribution threshold: a picture is known if −T·ln Σ exp(z/T) is at most this value.

    Liu et al. 2020 (arXiv:2010.03759); z are the raw logits, T is the card's temperature.
    """

    threshold: float
    known_share: Probability = Field(description="share of held-out pictures at or below it")
    pictures: PositiveInt = Field(description="number of held-out pictures used to choose it")


class Novelty(CardPart):
    """Out-of-distribution threshold: a picture is known if its `novelty` is at most this value.

    The novelty is the log-odds of an additional class, trained on pictures without a label, against
    all labels: z₊ − ln Σ exp(z).
    """

    threshold: float
    known_share: Probability = Field(description="share of held-out pictures at or below it")
    pictures: PositiveInt = Field(description="number of held-out pictures used to choose it")


FeatureName = Literal["classes", "labels", "energy", "margin", "brightness", "sharpness", "known"]


class Histogram(CardPart):
    """Counts of values between edges; a value equal to an edge belongs to the bin above it."""

    edges: Annotated[tuple[float, ...], Field(max_length=15)] = Field(description="ascending")
    counts: tuple[NonNegativeInt, ...]

    @model_validator(mode="after")
    def _bins_agree(self) -> Self:
        if len(self.counts) != len(self.edges) + 1 or not any(self.counts):
            raise ValueError("counts: must have one more entry than edges, and not all 0")
        if any(more <= less for less, more in pairwise(self.edges)):
            raise ValueError("edges: must ascend")
        return self


class Reference(CardPart):
    """Reference for drift: features of held-out pictures; see `logitserve.inference.features`."""

    pictures: PositiveInt = Field(description="number of held-out pictures")
    features: dict[FeatureName, Histogram]
    accuracy: Probability | None = Field(
        default=None, description="on these pictures; null: unknown, or a multilabel model"
    )


class ModelCard(CardPart):
    """The contract between training and serving of a model."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: ModelName
    version: ModelVersion
    description: str = Field(description="one sentence for the users of the model")
    head: Head
    labels: tuple[str, ...] = Field(
        min_length=2, description="label of each probability, in the order of the classes"
    )
    input: InputSpec
    temperature: float = Field(
        default=1.0, gt=0, description="divisor of the logits before the head is applied"
    )
    scaling: tuple[LabelScaling, ...] | None = Field(
        default=None,
        description="sigmoid and binary only: applied to each logit, instead of the temperature",
    )
    thresholds: tuple[Probability, ...] | None = Field(
        default=None,
        description="sigmoid only: a label holds if its calibrated probability is at or above it",
    )
    calibration: Calibration | None = Field(
        default=None, description="how the temperature or scaling was chosen"
    )
    conformal: Conformal | None = Field(
        default=None, description="softmax and binary only: for prediction sets"
    )
    energy: Energy | None = Field(
        default=None, description="softmax only: threshold for unknown pictures"
    )
    novelty: Novelty | None = Field(
        default=None,
        description="softmax and binary only, instead of the energy: threshold for unknown "
        "pictures on the network's own score",
    )
    ink: Ink | None = Field(
        default=None, description="softmax and binary only: ranges that detect unusual ink"
    )
    reference: Reference | None = Field(
        default=None, description="reference distribution for drift detection"
    )
    goldens: tuple[Golden, ...] = Field(min_length=1)
    tolerance: float = Field(
        default=1e-5,
        gt=0,
        description="largest allowed difference of a golden's probability from the recorded one; "
        "float16 and quantized networks need more than float32",
    )
    batch: PositiveInt | None = Field(
        default=None,
        description="fixed batch size of the graph; null: dynamic",
    )
    adopted: Adoption | None = Field(
        default=None, description="origin of the model if it was not trained here"
    )
    dataset: DatasetInfo | None = None
    metrics: dict[str, float] = Field(
        default_factory=dict, description="metrics on the test part, e.g. accuracy as a fraction"
    )
    intervals: dict[str, tuple[float, float]] = Field(
        default_factory=dict, description="95 % confidence interval of each of the metrics"
    )
    training: TrainingInfo | None = None
    created: datetime = Field(description="creation time with time zone")
    license: str = Field(description="SPDX identifier of the weights' license")

    @property
    def logit_count(self) -> int:
        """Number of logits: one for `binary`, else one per label."""
        return 1 if self.head is Head.BINARY else len(self.labels)

    @property
    def golden_width(self) -> int:
        """Number of values of a golden: the logits, and the novelty if the network has one."""
        return self.logit_count + (self.novelty is not None)

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels: a label occurs twice")
        if self.head is Head.BINARY and len(self.labels) != 2:
            raise ValueError("labels: a binary head needs two, for no and for yes")
        if self.head is Head.SIGMOID:
            if self.thresholds is None or len(self.thresholds) != len(self.labels):
                raise ValueError("thresholds: a sigmoid head needs one per label")
        elif self.thresholds is not None:
            raise ValueError(f"thresholds: not allowed with a {self.head} head")
        self._check_calibration()
        for golden in self.goldens:
            if len(golden.logits) != self.golden_width:
                raise ValueError(f"goldens: each must have {self.golden_width} logits")
        if self.created.tzinfo is None:
            raise ValueError("created: the time zone is missing")
        return self

    def _check_calibration(self) -> None:
        if self.scaling is not None:
            if self.head is Head.SOFTMAX:
                raise ValueError("scaling: a softmax head has a temperature instead")
            if len(self.scaling) != self.logit_count:
                raise ValueError(f"scaling: must have one entry per logit, so {self.logit_count}")
            if self.temperature != 1:
                raise ValueError("temperature: must be 1 if there is a scaling")
        if self.conformal is not None:
            if self.head is Head.SIGMOID:
                raise ValueError("conformal: not allowed with a sigmoid head, which is multilabel")
            if len(self.conformal.pictures_by_label) != len(self.labels):
                raise ValueError("conformal: there must be one row of thresholds per label")
        self._check_known()

    def _check_known(self) -> None:
        if self.energy is not None and self.head is not Head.SOFTMAX:
            raise ValueError(f"energy: not allowed with a {self.head} head")
        if self.novelty is not None and (self.head is Head.SIGMOID or self.energy is not None):
            raise ValueError("novelty: not allowed with a sigmoid head, or beside an energy")
        if self.ink is not None and self.head is Head.SIGMOID:
            raise ValueError("ink: not allowed with a sigmoid head, which may have no label")

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a card.

        Raises:
            CardInvalidError: not JSON, an unknown field, another `schema_version`, or contradictory
                fields.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise CardInvalidError(
                f"the model card is not valid in this version: {first_reason(error)} "
                f"(this version reads schema_version {SCHEMA_VERSION})"
            ) from error

    def to_json(self) -> str:
        """Return the card as JSON for the ONNX file's metadata."""
        return self.model_dump_json()
