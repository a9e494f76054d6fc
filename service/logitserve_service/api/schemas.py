"""Schemas of requests and responses: `/predict`, models, drift, problems."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from logitserve.inference import card as model_card
from logitserve.inference.card import CardPart
from logitserve.inference.explaining import Explanation
from logitserve_service.monitoring.drift import DriftDetector
from logitserve_service.monitoring.windows import WindowState

_Byte = Annotated[int, Field(ge=0, le=255)]
_Row = Annotated[list[_Byte], Field(min_length=1)]
_Rows = Annotated[list[_Row], Field(min_length=1)]
_Levels3 = Annotated[list[_Rows], Field(min_length=1)]
_Levels4 = Annotated[list[_Levels3], Field(min_length=1)]


class Images(CardPart):
    """Encoded images."""

    images: list[Annotated[str, Field(json_schema_extra={"format": "byte"})]] = Field(
        min_length=1, description="base64 or data URLs"
    )


class Pixels(CardPart):
    """Pixels of one image or several."""

    pixels: _Rows | _Levels3 | _Levels4 = Field(
        description="0 to 255: H×W, H×W×C, N×H×W or N×H×W×C"
    )


class Prediction(BaseModel):
    """The prediction for one image."""

    argmax: int = Field(ge=0, description="index of the most probable class")
    label: str = Field(description="its label")
    probability: float = Field(ge=0, le=1, description="its probability")
    probabilities: dict[str, float] = Field(
        description="label → probability; with top_k the most probable ones, highest first"
    )
    labels: list[str] | None = Field(
        None, description="sigmoid models only: the labels at or above their thresholds"
    )
    known: bool | None = Field(
        None,
        description="whether the image resembles the training data, by its ink, novelty or "
        "energy; only if the card has ranges for them",
    )
    set: list[str] | None = Field(
        None,
        description="with coverage: the prediction set with the requested coverage, most "
        "probable label first; empty if no label is likely enough",
    )
    id: str | None = Field(
        None,
        description="with receipts: the prediction id, with which `POST /feedback` takes "
        "the true label",
    )


class Predictions(BaseModel):
    """One prediction per image, in the order of the images."""

    model: str
    version: str
    predictions: list[Prediction]


class Explained(Explanation):
    """A prediction, and how much each part of the image contributes to it."""

    model: str
    version: str
    prediction: Prediction


class Conformal(model_card.Conformal):
    """The calibration of prediction sets, without its thresholds."""

    thresholds: tuple[float, ...] = Field(default=(), exclude=True)
    thresholds_by_label: tuple[tuple[float, ...], ...] = Field(default=(), exclude=True)


class ModelCard(model_card.ModelCard):
    """A model's card, without its golden images and its table of conformal thresholds."""

    goldens: tuple[model_card.Golden, ...] = Field(default=(), exclude=True)
    conformal: Conformal | None = None


class ModelVersionState(CardPart):
    """The state of a version in the folder of models."""

    version: str
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str = Field(description="why it is not served, or not as it now is in the folder")
    sha256: str | None = Field(description="SHA-256 of the served file; null if none is served")


class UnavailableModel(CardPart):
    """A model in the folder none of whose versions is served."""

    name: str
    folder: list[ModelVersionState] = Field(description="the versions in the folder, oldest first")


class _ServedModel(UnavailableModel):
    default: bool = Field(description="whether POST /predict uses this model")
    versions: list[str] = Field(description="all that are served, oldest first")


class ModelSummary(_ServedModel):
    """One entry of the list of models."""

    version: str = Field(description="the version that is used if the request names none")
    description: str
    head: str
    labels: list[str]


class ModelList(CardPart):
    """The served models, and those in the folder that are not served."""

    models: list[ModelSummary]
    unavailable: list[UnavailableModel]


class ModelDetail(_ServedModel):
    """One model, with the card of the version that was requested."""

    version: str
    report: str | None = Field(description="path of the version's report; null if there is none")
    card: ModelCard

    @classmethod
    def served(cls, served: model_card.ModelCard, **fields: Any) -> "ModelDetail":
        """Make the response with the card, without its goldens and conformal thresholds."""
        members = dict(served)
        if served.conformal is not None:
            told = {
                name: getattr(served.conformal, name) for name in model_card.Conformal.model_fields
            }
            members["conformal"] = Conformal.model_construct(**told)
        return cls(card=ModelCard.model_construct(**members), **fields)


class DriftWindow(CardPart):
    """The last full window of a size, compared with the baseline."""

    pictures: int
    p: float = Field(
        description="p-value: probability of a difference at least as large without drift"
    )
    psi: float = Field(
        description="population stability index (PSI), minus its expectation by chance"
    )


class DriftFeature(CardPart):
    """A feature of the images or of their predictions."""

    feature: model_card.FeatureName
    alarm: bool
    since: datetime | None = Field(description="start of the window that raised the alarm")
    sentence: str | None = Field(description="the largest change, in words")
    dispersion: float = Field(
        description="overdispersion of the live baseline: variance relative to that of "
        "independent images"
    )
    windows: list[DriftWindow] = Field(
        description="the last full window of each size, shortest first"
    )


class DriftReport(CardPart):
    """The drift state of a model, over all workers."""

    model: str
    version: str
    alarm: bool = Field(description="whether any feature has an alarm")
    reference: Literal["card", "live"] = Field(
        description="the baseline: the card's reference, or recent images"
    )
    pictures: int = Field(description="images compared since drift detection started")
    features: list[DriftFeature]

    @classmethod
    def of(cls, detector: DriftDetector, state: WindowState) -> Self:
        """Make the report of a model."""
        found = []
        for name in detector.drift_tests.bins.of:
            alarm = state.alarms.get(name, {})
            since = alarm.get("since")
            # One large batch can fill several windows; equal ones are listed once.
            tests = dict.fromkeys(tuple(test) for test in state.tests.get(name, ()) if test)
            found.append(
                DriftFeature(
                    feature=name,
                    alarm=bool(alarm),
                    since=since and datetime.fromtimestamp(since, UTC),
                    sentence=alarm.get("sentence"),
                    dispersion=state.dispersion.get(name, 1.0),
                    windows=[DriftWindow(pictures=int(n), p=p, psi=psi) for n, p, psi in tests],
                )
            )
        return cls(
            model=detector.card.name,
            version=detector.card.version,
            alarm=bool(state.alarms),
            reference="card" if state.normal is None else "live",
            pictures=detector.drift_tests.pictures(state.starts[0]),
            features=found,
        )


class StoreInfo(CardPart):
    """What the store holds."""

    rows: dict[str, int] = Field(description="number of rows by table: answer, picture, feedback")
    bytes: int = Field(description="size of the file and its write-ahead log")
    oldest: int | None = Field(description="Unix time of the oldest answer; null if there is none")


class Health(CardPart):
    """The response of a successful probe."""

    status: str = Field(examples=["ok"])


class Problem(BaseModel):
    """A problem document: what is wrong, and how to fix it (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field("about:blank")
    title: str = Field(description="the reason phrase of the status")
    status: int
    detail: str = Field(description="what is wrong with this request, and how to fix it")
    error: str = Field(description="same as `detail`, for clients of other protocols")
