import json
from typing import Any

import pytest

from logitserve.inference.card import (
    Calibration,
    Conformal,
    Energy,
    Fit,
    Golden,
    Head,
    InputSpec,
    ModelCard,
)
from logitserve.inference.errors import CardInvalidError
from tests.tiny_models import SPEC, card_for, weights


@pytest.fixture
def card() -> ModelCard:
    return card_for(weights(SPEC, 10, seed=0))


def changed(card: ModelCard, **fields: Any) -> str:
    return json.dumps({**json.loads(card.to_json()), **fields})


def test_a_card_survives_its_json(card: ModelCard) -> None:
    assert ModelCard.from_json(card.to_json()) == card


def test_goldens_are_base64_in_json(card: ModelCard) -> None:
    assert json.loads(card.to_json())["goldens"][0]["image"].startswith("iVBOR")


def test_every_field_of_the_card_says_what_it_means() -> None:
    plain = {"schema_version", "name", "version", "head", "input", "dataset", "training", "goldens"}
    plain |= {"before", "threshold"}
    for part in (ModelCard, InputSpec, Golden, Conformal, Energy, Calibration):
        for name, field in part.model_fields.items():
            assert field.description or name in plain, f"{part.__name__}.{name}"


ONE_SCALING = [{"scale": 2.0, "bias": 0.5}]
SETS: dict[str, Any] = {
    "pictures": 500,
    "thresholds": [0.5] * 50,
    "pictures_by_label": [50] * 10,
    "thresholds_by_label": [[0.4] * 49] * 10,
}
ENERGY = {"threshold": -3.0, "known_share": 0.99, "pictures": 9}


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"color": "blue"}, "color"),
        ({"name": "../escape"}, "name"),
        ({"version": "0"}, "version"),
        ({"version": "1.2"}, "version"),
        ({"head": "maxout"}, "head"),
        ({"labels": ["a", "a"]}, "a label occurs twice"),
        ({"labels": ["a"]}, "labels"),
        ({"labels": ["a", "b", "c"]}, "goldens: each must have 3 logits"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"goldens": []}, "goldens"),
        ({"thresholds": [0.5] * 10}, "not allowed with a softmax head"),
        ({"head": "sigmoid"}, "a sigmoid head needs one per label"),
        ({"head": "sigmoid", "thresholds": [0.5]}, "a sigmoid head needs one per label"),
        ({"head": "sigmoid", "thresholds": [1.5] * 10}, "thresholds"),
        ({"head": "binary"}, "a binary head needs two"),
        ({"head": "binary", "labels": ["no", "yes"]}, "goldens: each must have 1 logits"),
        ({"created": "2026-01-01T00:00:00"}, "time zone"),
        ({"input": {"height": 0, "width": 28, "channels": 1, "fit": "pad"}}, "input.height"),
        ({"input": {"height": 28, "width": 28, "channels": 2, "fit": "pad"}}, "input.channels"),
        ({"input": {"height": 28, "width": 28, "channels": 3, "fit": "digit"}}, "luminance"),
        # a calibration that does not suit the head
        ({"scaling": ONE_SCALING * 10}, "a softmax head has a temperature"),
        (
            {"head": "sigmoid", "thresholds": [0.5] * 10, "scaling": ONE_SCALING},
            "one entry per logit",
        ),
        (
            {
                "head": "sigmoid",
                "thresholds": [0.5] * 10,
                "scaling": ONE_SCALING * 10,
                "temperature": 2.0,
            },
            "must be 1 if there is a scaling",
        ),
        ({"head": "sigmoid", "thresholds": [0.5] * 10, "conformal": SETS}, "which is multilabel"),
        (
            {"head": "sigmoid", "thresholds": [0.5] * 10, "energy": ENERGY},
            "not allowed with a sigmoid head",
        ),
        ({"conformal": SETS | {"thresholds": [0.5] * 60}}, "at most 59 items"),
        ({"conformal": SETS | {"thresholds": [0.5] * 49 + [0.4]}}, "must not decrease"),
        ({"conformal": SETS | {"pictures_by_label": [50] * 9}}, "one row per label"),
        (
            {"conformal": SETS | {"pictures_by_label": [9], "thresholds_by_label": [[]]}},
            "one row of thresholds per label",
        ),
    ],
)
def test_a_wrong_card_is_refused_with_the_place(
    card: ModelCard, fields: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(CardInvalidError, match=complaint):
        ModelCard.from_json(changed(card, **fields))


def test_what_is_calibrated_survives_its_json(card: ModelCard) -> None:
    text = changed(card, conformal=SETS, energy=ENERGY, temperature=1.5)
    again = ModelCard.from_json(ModelCard.from_json(text).to_json())
    assert (again.conformal, again.energy) == (Conformal(**SETS), Energy(**ENERGY))
    assert again.conformal is not None
    table = again.conformal.table
    assert table.shape == (50, 10)
    assert (table[:49] == 0.4).all()
    assert (table[49] == 0.5).all()  # more than 50 pictures of a label can give


def test_text_that_is_not_json_is_refused() -> None:
    with pytest.raises(CardInvalidError, match="Invalid JSON"):
        ModelCard.from_json("{")


def test_logit_count_follows_the_head(card: ModelCard) -> None:
    assert card.logit_count == 10
    binary = card_for(weights(SPEC, 1, seed=0), head=Head.BINARY, labels=("no", "yes"))
    assert binary.logit_count == 1


def test_the_input_knows_its_shape() -> None:
    assert InputSpec(height=2, width=3, channels=1, fit=Fit.PAD).shape == (2, 3, 1)
