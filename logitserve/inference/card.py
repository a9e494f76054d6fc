"""The model card: everything that serving must know about a model, stored inside its ONNX file."""

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
"""Key of the ONNX `metadata_props` entry that holds the card as JSON."""

ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
"""Safe as a folder name and in a URL: lower-case letters, digits, dot, underscore, hyphen."""

ModelVersion = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,17}$")]
"""A positive whole number without leading zeros; the largest is the latest."""

Probability = Annotated[float, Field(ge=0, le=1)]
Thresholds = Annotated[tuple[Annotated[float, Field(ge=-1, le=1)], ...], Field(max_length=59)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256, hexadecimal."""


class Head(StrEnum):
    """Which function turns the network's logits into probabilities."""

    SOFTMAX = "softmax"
    """Exactly one label holds: K logits, K probabilities that sum to 1."""
    SIGMOID = "sigmoid"
    """Any number of labels hold: K logits, K independent probabilities."""
    BINARY = "binary"
    """Yes or no: one logit z, two labels with probabilities [1 - sigmoid(z), sigmoid(z)]."""


class Fit(StrEnum):
    """How a picture of any size becomes one of the network's input size."""

    STRETCH = "stretch"
    """Scale each side on its own; the aspect may change."""
    PAD = "pad"
    """Scale by one factor and fill the rest with black."""
    CROP = "crop"
    """Scale the shorter side to `shorter_side` and cut out the center, as torchvision does."""
    DIGIT = "digit"
    """Cut out, scale and center the handwriting as in the making of MNIST."""


class CardPart(BaseModel):
    """Base of the card and its parts: immutable, strict about names, finite numbers only."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )


class InputSpec(CardPart):
    """The picture that the network takes: uint8, height × width × channels."""

    height: PositiveInt = Field(description="pixels")
    width: PositiveInt = Field(description="pixels")
    channels: Literal[1, 3] = Field(description="1: luminance; 3: red, green, blue")
    fit: Fit = Field(description="how a picture of another size is made to fit")
    as_sent: bool = Field(
        default=False,
        description="fit 'digit' only: of pictures of the network's own size only dark ink on even "
        "paper is cut out, for the network has learned to read all others as they are",
    )
    shorter_side: PositiveInt | None = Field(
        default=None,
        description="fit 'crop' only: pixels that the shorter side is scaled to; null: the larger "
        "of height and width",
    )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.height, self.width, self.channels

    @model_validator(mode="after")
    def _fit_suits_channels(self) -> Self:
        if self.fit is Fit.DIGIT and self.channels != 1:
            raise ValueError("channels: fit 'digit' makes luminance pictures, so 1")
        if self.as_sent and self.fit is not Fit.DIGIT:
            raise ValueError(f"as_sent: fit {self.fit.value!r} has none")
        if self.shorter_side is not None and self.fit is not Fit.CROP:
            raise ValueError(f"shorter_side: fit 'crop' has one, and {self.fit.value!r} has none")
        if self.shorter_side is not None and self.shorter_side < max(self.height, self.width):
            raise ValueError("shorter_side: the picture is cut out of it, so it is no smaller")
        return self


def first_reason(error: ValidationError) -> str:
    """Where the first fault is, and what it is."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "card"
    raised = first.get("ctx", {}).get("error")  # its message is without pydantic's "Value error,"
    return f"{where}: {raised if isinstance(raised, ValueError) else first['msg']}"


class Golden(CardPart):
    """A picture with the logits that training saw for it: the file's proof of itself."""

    image: bytes = Field(description="an encoded picture (PNG); base64 in JSON")
    logits: tuple[float, ...] = Field(
        min_length=1, description="raw logits, before temperature; the novelty last"
    )


class Adoption(CardPart):
    """Where a model that was not trained here comes from."""

    file: str = Field(description="name of the file")
    ending: str = Field(description="what its answers were taken for, and why")


class DatasetInfo(CardPart):
    """What the model was trained and tested on."""

    name: str
    sha256: Digest = Field(description="digest over the data set's files")
    train: PositiveInt = Field(description="pictures that the weights were fitted to")
    validation: PositiveInt = Field(description="pictures that choices were made on")
    test: PositiveInt = Field(description="pictures that were used for nothing but `metrics`")
    parts: dict[Literal["train", "validation", "test"], Digest] = Field(
        description="digest over the pictures of each part and what they show"
    )
    folds: PositiveInt | None = Field(
        default=None,
        description="each part is all pictures, and `metrics` are cross-validated over so many "
        "folds; null: no picture is in two parts",
    )


class TrainingInfo(CardPart):
    """How the model was trained, enough to do it again."""

    recipe: str
    seed: int
    settings: dict[str, JsonValue] = Field(description="the recipe's options as they were used")
    libraries: dict[str, str] = Field(description="library name → version")


class Scores(CardPart):
    """How right probabilities are; less is better."""

    nll: float = Field(ge=0, description="mean negative log-likelihood, nats")
    brier: float = Field(ge=0, description="mean squared distance from the truth, over the labels")
    ece: Probability = Field(description="expected calibration error over 15 bins")


class LabelScaling(CardPart):
    """One label's calibrated logit is scale × logit + bias (Platt 1999)."""

    scale: float = Field(gt=0)
    bias: float


class Calibration(CardPart):
    """What was found when the probabilities were compared with the truth on held-out pictures."""

    pictures: PositiveInt = Field(description="of the validation part")
    before: Scores
    after: Scores = Field(description="with the card's `temperature` or `scaling`")


COVERAGES: Final = (
    *(step / 100 for step in range(50, 99)),
    *(step / 1000 for step in range(990, 1000)),
)
"""The coverages that thresholds are stored for: 0.50, 0.51, …, 0.99, 0.991, …, 0.999."""
LEAST_OF_LABEL: Final = 50
"""Held-out pictures from which a label has thresholds of its own."""


class Conformal(CardPart):
    """Thresholds for prediction sets; see `logitserve.inference.conformal`.

    Each row of thresholds is for `COVERAGES`, as far as its pictures can give them.
    """

    pictures: PositiveInt = Field(description="held-out pictures that the thresholds rank")
    thresholds: Thresholds = Field(description="largest score in the set, over all pictures")
    pictures_by_label: tuple[NonNegativeInt, ...] = Field(description="of those, by their label")
    thresholds_by_label: tuple[Thresholds, ...] = Field(
        description="over the pictures of each label; none where these are fewer than 50"
    )

    @model_validator(mode="after")
    def _sets_are_nested(self) -> Self:
        for row in (self.thresholds, *self.thresholds_by_label):
            if any(more < less for less, more in pairwise(row)):
                raise ValueError("thresholds: more coverage needs a threshold as high or higher")
        if self.thresholds_by_label and (
            len(self.thresholds_by_label) != len(self.pictures_by_label)
        ):
            raise ValueError("thresholds_by_label: there is one row a label")
        return self

    @cached_property
    def table(self) -> npt.NDArray[np.float64]:
        """The threshold of each label at each coverage that all pictures together can give.

        `[coverages, labels]`. A label with too few pictures for a coverage has that of all
        pictures; more coverage never has a lower threshold.
        """
        of_all = np.array(self.thresholds)
        columns = [
            np.concatenate([row[: len(of_all)], of_all[len(row) :]])
            for row in self.thresholds_by_label or [()] * len(self.pictures_by_label)
        ]
        return np.maximum.accumulate(np.stack(columns, axis=1), axis=0)


class Ink(CardPart):
    """What the prepared pictures of the training look like: the range of each of a few numbers.

    See `logitserve.inference.ink`. A picture outside of them is none of the labels.
    """

    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    pictures: PositiveInt = Field(description="that the ranges were found on")


class Energy(CardPart):
    """What counts as one of the classes: energy −T·ln Σ exp(z/T) at or below the threshold.

    After Liu et al. 2020 (arXiv:2010.03759); z are the raw logits, T is the card's temperature.
    """

    threshold: float
    known_share: Probability = Field(description="of the held-out pictures that are at or below it")
    pictures: PositiveInt = Field(description="held-out pictures that it was chosen on")


class Novelty(CardPart):
    """What counts as one of the classes: the network's output `novelty` at or below the threshold.

    It is the log-odds of a class more, which was learned from pictures of no label, against all
    labels: z₊ − ln Σ exp(z).
    """

    threshold: float
    known_share: Probability = Field(description="of the held-out pictures that are at or below it")
    pictures: PositiveInt = Field(description="held-out pictures that it was chosen on")


FeatureName = Literal["classes", "labels", "energy", "margin", "brightness", "sharpness", "known"]


class Histogram(CardPart):
    """How often a number fell between edges; a value at an edge belongs above it."""

    edges: Annotated[tuple[float, ...], Field(max_length=15)] = Field(description="ascending")
    counts: tuple[NonNegativeInt, ...]

    @model_validator(mode="after")
    def _bins_agree(self) -> Self:
        if len(self.counts) != len(self.edges) + 1 or not any(self.counts):
            raise ValueError("counts: there is one more than edges, and not all are 0")
        if any(more <= less for less, more in pairwise(self.edges)):
            raise ValueError("edges: they ascend")
        return self


class Reference(CardPart):
    """What is normal: features of held-out pictures; see `logitserve.inference.features`."""

    pictures: PositiveInt = Field(description="held-out pictures that were counted")
    features: dict[FeatureName, Histogram]
    accuracy: Probability | None = Field(
        default=None, description="on these pictures; null: it is not known, or many labels hold"
    )


class ModelCard(CardPart):
    """The contract between whoever makes a model file and whoever serves it."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: ModelName
    version: ModelVersion
    description: str = Field(description="one sentence for the person who uses the model")
    head: Head
    labels: tuple[str, ...] = Field(
        min_length=2, description="label of each probability, in the order of the classes"
    )
    input: InputSpec
    temperature: float = Field(
        default=1.0, gt=0, description="the logits are divided by it before the head is applied"
    )
    scaling: tuple[LabelScaling, ...] | None = Field(
        default=None,
        description="sigmoid and binary only: applied to each logit, in place of the temperature",
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
        default=None, description="softmax only: tells what is none of the labels"
    )
    novelty: Novelty | None = Field(
        default=None,
        description="softmax and binary only, in place of the energy: the network itself tells "
        "what is none of the labels",
    )
    ink: Ink | None = Field(
        default=None, description="softmax and binary only: tells what has no ink, or too odd one"
    )
    reference: Reference | None = Field(
        default=None, description="tells whether pictures are still like those of the training"
    )
    goldens: tuple[Golden, ...] = Field(min_length=1)
    tolerance: float = Field(
        default=1e-5,
        gt=0,
        description="how far a probability of a golden may be from what it was when the file was "
        "made; float16 and quantized networks need more than float32",
    )
    batch: PositiveInt | None = Field(
        default=None,
        description="pictures that the graph takes at a time, no more and no fewer; null: any",
    )
    adopted: Adoption | None = Field(
        default=None, description="where a model comes from that was not trained here"
    )
    dataset: DatasetInfo | None = None
    metrics: dict[str, float] = Field(
        default_factory=dict, description="measured on the test part, e.g. accuracy as a fraction"
    )
    intervals: dict[str, tuple[float, float]] = Field(
        default_factory=dict, description="95 % confidence interval of each of the metrics"
    )
    training: TrainingInfo | None = None
    created: datetime = Field(description="when the file was made, with its time zone")
    license: str = Field(description="SPDX identifier of the weights' license")

    @property
    def logit_count(self) -> int:
        """One logit for `binary`, else one a label."""
        return 1 if self.head is Head.BINARY else len(self.labels)

    @property
    def golden_width(self) -> int:
        """Numbers of a golden: the logits, and the novelty where the network gives it."""
        return self.logit_count + (self.novelty is not None)

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels: each label may stand there once")
        if self.head is Head.BINARY and len(self.labels) != 2:
            raise ValueError("labels: a binary head has two, the one for no and the one for yes")
        if self.head is Head.SIGMOID:
            if self.thresholds is None or len(self.thresholds) != len(self.labels):
                raise ValueError("thresholds: a sigmoid head has one a label")
        elif self.thresholds is not None:
            raise ValueError(f"thresholds: a {self.head} head has none")
        self._check_calibration()
        for golden in self.goldens:
            if len(golden.logits) != self.golden_width:
                raise ValueError(f"goldens: each has {self.golden_width} logits")
        if self.created.tzinfo is None:
            raise ValueError("created: the time zone is missing")
        return self

    def _check_calibration(self) -> None:
        if self.scaling is not None:
            if self.head is Head.SOFTMAX:
                raise ValueError("scaling: a softmax head has a temperature")
            if len(self.scaling) != self.logit_count:
                raise ValueError(f"scaling: there is one a logit, so {self.logit_count}")
            if self.temperature != 1:
                raise ValueError("temperature: it is 1 where there is a scaling")
        if self.conformal is not None:
            if self.head is Head.SIGMOID:
                raise ValueError("conformal: a sigmoid head, where many labels may hold, has none")
            if len(self.conformal.pictures_by_label) != len(self.labels):
                raise ValueError("conformal: there is one row of thresholds a label")
        self._check_known()

    def _check_known(self) -> None:
        if self.energy is not None and self.head is not Head.SOFTMAX:
            raise ValueError(f"energy: a {self.head} head has none")
        if self.novelty is not None and (self.head is Head.SIGMOID or self.energy is not None):
            raise ValueError("novelty: a sigmoid head has none, nor one with an energy")
        if self.ink is not None and self.head is Head.SIGMOID:
            raise ValueError("ink: a sigmoid head, of which no label may hold, has none")

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a card.

        Raises:
            CardInvalidError: not JSON, an unknown field, another `schema_version`, or parts of
                the card that contradict each other.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise CardInvalidError(
                f"the model card is not one that this version reads: {first_reason(error)} "
                f"(this version reads schema_version {SCHEMA_VERSION})"
            ) from error

    def to_json(self) -> str:
        """The card as it stands in the ONNX file's metadata."""
        return self.model_dump_json()
