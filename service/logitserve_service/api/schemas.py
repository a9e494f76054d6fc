"""The shapes of requests and answers, as OpenAPI documents them."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from logitserve.inference.card import CardPart, Conformal, Golden, ModelCard
from logitserve_service.api.payloads import FILE_FIELD, IMAGE_TYPES


class Prediction(BaseModel):
    """What a model says of one picture."""

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
        description="whether the picture is like one of the labels at all, by its energy; "
        "only where the card has an energy threshold",
    )
    set: list[str] | None = Field(
        None,
        description="with coverage: the labels that hold the true one as often as was asked, the "
        "most probable first; empty where none is likely enough",
    )


class PredictResponse(BaseModel):
    """One prediction a picture, in the order of the pictures."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "zero",
                    "version": "1",
                    "predictions": [
                        {
                            "argmax": 1,
                            "label": "zero",
                            "probability": 0.998,
                            "probabilities": {"other": 0.002, "zero": 0.998},
                        }
                    ],
                }
            ]
        }
    )

    model: str
    version: str
    predictions: list[Prediction]


class ServedConformal(Conformal):
    """What stands behind a model's prediction sets."""

    thresholds: tuple[float, ...] = Field(default=(), exclude=True)


class ServedCard(ModelCard):
    """A model's card, without its golden pictures and its table of conformal thresholds."""

    goldens: tuple[Golden, ...] = Field(default=(), exclude=True)
    conformal: ServedConformal | None = None


class ModelVersionState(CardPart):
    """How a version is that lies in the folder of models."""

    version: str
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str = Field(description="why it does not answer, or not as it now lies in the folder")
    sha256: str | None = Field(description="of the file that answers; none where it does not")


class ModelSummary(CardPart):
    """One line of the list of models."""

    name: str
    default: bool = Field(description="whether POST /predict asks this model")
    version: str = Field(description="the latest, which answers when none is named")
    versions: list[str] = Field(description="all that are served, oldest first")
    description: str
    head: str
    labels: list[str]
    folder: list[ModelVersionState] = Field(
        description="every version that lies in the folder of models, oldest first"
    )


class UnavailableModel(CardPart):
    """A model that lies in the folder, but none of its versions answers."""

    name: str
    folder: list[ModelVersionState] = Field(description="its versions, oldest first")


class ModelList(CardPart):
    """The models that are served, and those that are not."""

    models: list[ModelSummary]
    unavailable: list[UnavailableModel]


class ModelDetail(CardPart):
    """One model, with the card of the version that was asked for."""

    name: str
    default: bool = Field(description="whether POST /predict asks this model")
    version: str
    versions: list[str] = Field(description="all that are served, oldest first")
    report: str | None = Field(description="path of its report; none where there is none")
    folder: list[ModelVersionState] = Field(
        description="every version that lies in the folder of models, oldest first"
    )
    card: ServedCard

    @classmethod
    def served(cls, card: ModelCard, **fields: Any) -> "ModelDetail":
        """With the card, less what is not for reading."""
        members = dict(card)
        if card.conformal is not None:
            members["conformal"] = ServedConformal.model_construct(**dict(card.conformal))
        return cls(card=ServedCard.model_construct(**members), **fields)


class Health(CardPart):
    """The answer of a probe that is content."""

    status: str = Field(examples=["ok"])


class Problem(BaseModel):
    """What went wrong, and what to do (RFC 9457)."""

    type: str = Field("about:blank")
    title: str = Field(description="the phrase of the status")
    status: int
    detail: str = Field(description="what is wrong with this request, and what to do")
    error: str = Field(description="the same, where clients of other protocols look for it")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of the errors that a route answers with."""
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    return {status: {"description": "a problem", "content": content} for status in statuses}


def _nested_lists(levels: int) -> dict[str, Any]:
    """Lists in lists, that many deep, of whole numbers from 0 to 255."""
    schema: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 255}
    for _ in range(levels):
        schema = {"type": "array", "minItems": 1, "items": schema}
    return schema


_A_ONE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAwAAAAQAQAAAAAKGqOqAAAAKUlEQVR42l3CsQ0AIAzAsDTif/ElrJ0qWMqO5egUvLgR"
    "4pTwHWsK0Sk8/Q8JSc09LaAAAAAASUVORK5CYII="
)
"""A picture of a one, 12×16 pixels, for people to try."""
_TWO_BARS = [[0, 255, 0, 255, 0]] * 5

_BINARY = {"type": "string", "format": "binary"}

PICTURES_BODY: Mapping[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            **{media_type: {"schema": _BINARY} for media_type in IMAGE_TYPES},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FILE_FIELD],
                    "additionalProperties": False,
                    "properties": {FILE_FIELD: {"type": "array", "items": _BINARY, "minItems": 1}},
                }
            },
            "application/json": {
                "examples": {
                    "images": {"value": {"images": [_A_ONE]}},
                    "pixels": {"value": {"pixels": _TWO_BARS}},
                },
                "schema": {
                    "oneOf": [
                        {
                            "type": "object",
                            "required": ["images"],
                            "additionalProperties": False,
                            "properties": {
                                "images": {
                                    "type": "array",
                                    "minItems": 1,
                                    "items": {"type": "string", "format": "byte"},
                                    "description": "encoded pictures, base64 or data URLs",
                                }
                            },
                        },
                        {
                            "type": "object",
                            "required": ["pixels"],
                            "additionalProperties": False,
                            "properties": {
                                "pixels": {
                                    "description": "0 to 255: H×W, H×W×C, N×H×W or N×H×W×C",
                                    "anyOf": [_nested_lists(levels) for levels in (2, 3, 4)],
                                }
                            },
                        },
                    ]
                },
            },
        },
    }
}
"""OpenAPI's description of the three kinds of body that carry pictures."""
