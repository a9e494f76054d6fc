"""Pictures with known labels choose the preprocessing; those without are compared."""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from logitserve.adoption.options import PRESETS, Color
from logitserve.inference import preprocessing
from logitserve.inference.card import Fit, InputSpec
from tests.logitserve.adoption.graphs import (
    LABELS,
    UNIT,
    Pictures,
    adopt,
    adopted,
    assert_refused,
    card_of,
    linear,
    save,
    weights,
)
from tests.tiny_models import png

BIAS = np.array([1.5, 0, -1.5], np.float32)
"""Without one, a linear network would say the same of numbers of any scale."""
END = [
    helper.make_node("Add", ["z", "bias"], ["b"]),
    helper.make_node("Mul", ["b", "sharp"], ["y"]),
]


def file_in(folder: Path, sharp: float = 2) -> Path:
    constants = {"bias": BIAS, "sharp": np.array(sharp, np.float32)}
    return save(linear(end=END, constants=constants), folder)


def label(image: Pictures, preset: str, color: Color, fit: Fit) -> str:
    """What the network says of a picture under its own preprocessing, in numpy."""
    shorter_side = 8 if fit is Fit.CROP else None
    spec = InputSpec(height=4, width=6, channels=3, fit=fit, shorter_side=shorter_side)
    pixels = preprocessing.fit(image, spec).astype(np.float64)
    one = PRESETS[preset]
    if color is Color.BGR:
        pixels = pixels[..., ::-1]
    z = ((pixels / one.scale - one.mean) / one.std).reshape(-1) @ weights(72, 3) + BIAS
    return "abc"[int(z.argmax())]


def pictures_by_class(folder: Path, preset: str, color: Color, fit: Fit, count: int = 40) -> None:
    generator = np.random.default_rng(4)
    for index in range(count):
        coarse = generator.integers(0, 256, (3, 5, 3), dtype=np.uint8)
        image = coarse.repeat(8, axis=0).repeat(3, axis=1)
        place = folder / label(image, preset, color, fit)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{index}.png").write_bytes(png(image))


@pytest.mark.parametrize(
    ("preset", "color", "fit"),
    [
        ("imagenet", Color.RGB, Fit.STRETCH),
        ("imagenet", Color.BGR, Fit.STRETCH),
        ("-1..1", Color.RGB, Fit.CROP),
    ],
)
def test_samples_by_class_find_the_preprocessing(
    tmp_path: Path, preset: str, color: Color, fit: Fit
) -> None:
    pictures_by_class(tmp_path / "s", preset, color, fit)
    crop = ("--shorter-side", "8") if fit is Fit.CROP else ()
    said = ("--fit", "crop", *crop) if crop else ()
    done = adopt(file_in(tmp_path), tmp_path / "m", *LABELS, *said, "--sample", str(tmp_path / "s"))
    assert done.exit_code == 0, done.output
    assert f"{preset} {color}, fit {fit} fits best: 40 of 40 samples right" in done.output
    assert "certainty" in done.output


def test_each_sample_with_its_own_label(tmp_path: Path) -> None:
    pictures_by_class(tmp_path / "s", "0-1", Color.RGB, Fit.STRETCH)
    told: list[str] = []
    for file in sorted((tmp_path / "s").rglob("*.png")):
        told += ["--sample", str(file), "--expect", file.parent.name]
    done = adopt(file_in(tmp_path), tmp_path / "m", *LABELS, *told)
    assert done.exit_code == 0, done.output
    assert "samples right" in done.output
    assert adopt(file_in(tmp_path), tmp_path / "m", *LABELS, *told[:-2]).exit_code == 2


def test_presets_that_fit_as_well_are_not_guessed(tmp_path: Path) -> None:
    """Three labels are right under many presets where the network is sure of everything."""
    pictures_by_class(tmp_path / "s", "0-1", Color.RGB, Fit.STRETCH, count=3)
    file = file_in(tmp_path, sharp=1000)
    done = adopt(file, tmp_path / "m", *LABELS, "--sample", str(tmp_path / "s"))
    assert_refused(done, "certainty 0.", "more samples")


def test_samples_that_nothing_fits_are_refused(tmp_path: Path) -> None:
    pictures_by_class(tmp_path / "s", "0-1", Color.RGB, Fit.STRETCH)
    turned = ("--labels", "b,c,a")
    done = adopt(file_in(tmp_path), tmp_path / "m", *turned, "--sample", str(tmp_path / "s"))
    assert_refused(
        done, "no preprocessing predicts half of the samples right", "order of the labels"
    )
    unknown = ("--labels", "a,b,d", "--sample", str(tmp_path / "s"))
    assert_refused(adopt(file_in(tmp_path), tmp_path / "m", *unknown), "--expect c", "3 labels")


def test_samples_without_labels_are_compared_before_publishing(tmp_path: Path) -> None:
    samples = tmp_path / "s"
    samples.mkdir()
    for index in range(3):
        image = np.random.default_rng(index).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        (samples / f"{index}.png").write_bytes(png(image))
    options = (*LABELS, *UNIT, "--sample", str(samples))
    done = adopt(file_in(tmp_path), tmp_path / "m", *options)
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.output.splitlines()[:3]] == [
        "0.png:",
        "1.png:",
        "2.png:",
    ]
    assert card_of(tmp_path / "m").reference is None
    done = adopt(file_in(tmp_path), tmp_path / "m", *LABELS, *UNIT, "--reference", str(samples))
    assert done.exit_code == 0, done.output
    normal = card_of(tmp_path / "m").reference
    assert normal is not None
    assert normal.pictures == 3
    assert set(normal.features) == {"classes", "margin", "energy", "brightness", "sharpness"}
    (samples / "3.jpg").write_bytes(b"not a picture")
    done = adopt(file_in(tmp_path), tmp_path / "m", *options)
    assert_refused(done, "3.jpg")
    assert not (tmp_path / "m/adopted/3").exists()


def test_it_ends_with_one_prediction_and_where_to_try_it(tmp_path: Path) -> None:
    done = adopt(file_in(tmp_path), tmp_path / "m", *LABELS, *UNIT)
    first, *_, serve, ask = done.output.splitlines()
    card = adopted(file_in(tmp_path), tmp_path / "n", *LABELS, *UNIT)
    golden = card.decode(card.card.goldens[0].image)
    (probability,) = card.predict(golden[None]).probabilities.max(axis=1)
    assert first.startswith("  a drawn picture: ")
    assert first.endswith(f" {probability:.4f}")
    assert serve == f"try it: logitserve serve --models {tmp_path / 'm'}"
    assert ask.endswith("http://localhost:8000/models/adopted/predict")
