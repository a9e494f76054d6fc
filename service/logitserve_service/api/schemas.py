"""The shapes of requests and responses: `/predict`, models, problems."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from logitserve.inference import card as model_card
from logitserve.inference.card import CardPart
from logitserve.inference.explaining import Explanation
from logitserve_service.monitoring.drift import DriftDetector
from logitserve_service.monitoring.ladder import Ladder

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
        description="whether the image is like one of the labels at all, by its ink, novelty or "
        "energy; only where the card has ranges for them",
    )
    set: list[str] | None = Field(
        None,
        description="with coverage: the labels that hold the true one as often as was requested, "
        "the most probable first; empty where none is likely enough",
    )
    id: str | None = Field(
        None, description="with receipts: for `POST /feedback`, once the true label is known"
    )


class Predictions(BaseModel):
    """One prediction an image, in the order of the images."""

    model: str
    version: str
    predictions: list[Prediction]


class Explained(Explanation):
    """A prediction, and which parts of the image it comes from."""

    model: str
    version: str
    prediction: Prediction


class Conformal(model_card.Conformal):
    """How prediction sets were calibrated."""

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
    sha256: str | None = Field(description="of the file that is served; null where none is")


class UnavailableModel(CardPart):
    """A model in the folder of which no version is served."""

    name: str
    folder: list[ModelVersionState] = Field(description="its versions, oldest first")


class _ServedModel(UnavailableModel):
    default: bool = Field(description="whether POST /predict uses this model")
    versions: list[str] = Field(description="all that are served, oldest first")


class ModelSummary(_ServedModel):
    """One entry of the list of models."""

    version: str = Field(description="the latest, which is used when none is named")
    description: str
    head: str
    labels: list[str]


class ModelList(CardPart):
    """The models that are served, and those that are not."""

    models: list[ModelSummary]
    unavailable: list[UnavailableModel]


class ModelDetail(_ServedModel):
    """One model, with the card of the version that was requested."""

    version: str
    report: str | None = Field(description="path of its report; null where there is none")
    card: ModelCard

    @classmethod
    def served(cls, served: model_card.ModelCard, **fields: Any) -> "ModelDetail":
        """With the card, less what is not for reading."""
        members = dict(served)
        if served.conformal is not None:
            told = {
                name: getattr(served.conformal, name) for name in model_card.Conformal.model_fields
            }
            members["conformal"] = Conformal.model_construct(**told)
        return cls(card=ModelCard.model_construct(**members), **fields)


class DriftWindow(CardPart):
    """The last window of a length, compared with what is normal."""

    pictures: int
    p: float = Field(description="of a difference as large or larger, if nothing has changed")
    psi: float = Field(description="population stability index, less what chance alone gives")


class DriftFeature(CardPart):
    """A feature of the images or of their predictions."""

    feature: model_card.FeatureName
    alarm: bool
    since: datetime | None = Field(description="when the window began that showed it first")
    sentence: str | None = Field(description="what has changed")
    dispersion: float = Field(
        description="of the live baseline: variance over that of independent images"
    )
    windows: list[DriftWindow] = Field(description="those that were full, shortest first")


class DriftReport(CardPart):
    """Whether what arrives, in all workers, is still normal."""

    model: str
    version: str
    alarm: bool = Field(description="whether any feature has one")
    reference: Literal["card", "live"] = Field(description="what is normal")
    pictures: int = Field(description="that were compared since the service began to watch")
    features: list[DriftFeature]

    @classmethod
    def of(cls, detector: DriftDetector, ladder: Ladder) -> Self:
        """The report of a model."""
        found = []
        for name in detector.climber.bins.of:
            alarm = ladder.alarms.get(name, {})
            since = alarm.get("since")
            # Where many come at a time, they fill several windows.
            tests = dict.fromkeys(tuple(test) for test in ladder.tests.get(name, ()) if test)
            found.append(
                DriftFeature(
                    feature=name,
                    alarm=bool(alarm),
                    since=since and datetime.fromtimestamp(since, UTC),
                    sentence=alarm.get("sentence"),
                    dispersion=ladder.dispersion.get(name, 1.0),
                    windows=[DriftWindow(pictures=int(n), p=p, psi=psi) for n, p, psi in tests],
                )
            )
        return cls(
            model=detector.card.name,
            version=detector.card.version,
            alarm=bool(ladder.alarms),
            reference="card" if ladder.normal is None else "live",
            pictures=detector.climber.pictures(ladder.starts[0]),
            features=found,
        )


class StoreInfo(CardPart):
    """What the store holds."""

    rows: dict[str, int] = Field(description="by table: answer, picture, feedback")
    bytes: int = Field(description="of the file and its log")
    oldest: int | None = Field(description="Unix time of the oldest answer; null: there is none")


class Health(CardPart):
    """The response of a probe that succeeds."""

    status: str = Field(examples=["ok"])


class Problem(BaseModel):
    """What is wrong, and what to do (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field("about:blank")
    title: str = Field(description="the phrase of the status")
    status: int
    detail: str = Field(description="what is wrong with this request, and what to do")
    error: str = Field(description="the same, where clients of other protocols look for it")
