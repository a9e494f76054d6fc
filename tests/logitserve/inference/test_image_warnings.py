"""Each warning by a picture that provokes it, and none by the pictures that models are made for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from logitserve.inference import images, preprocessing
from logitserve.inference.card import Fit, InputSpec
from logitserve.inference.image_warnings import ImageWarning
from logitserve_training.drawings import SHEET, Paper, draw
from tests.tiny_models import encode, png

BLACKBOARD = Paper(120, 120, (0, 0, 0), (255, 255, 255))


def spec(fit: Fit, channels: int = 1) -> InputSpec:
    return InputSpec.model_validate({"height": 28, "width": 28, "channels": channels, "fit": fit})


def warnings(data: bytes, wanted: InputSpec) -> Sequence[str]:
    """What is reported, having checked that reporting changes nothing."""
    reported: list[ImageWarning] = []
    found = preprocessing.decode(data, wanted, warn=reported.append)
    np.testing.assert_array_equal(found, preprocessing.decode(data, wanted))
    return reported


def see_through(ink: int = 0) -> bytes:
    """A 3 on nothing, as drawing programs export it."""
    opacity = draw(3, seed=1, paper=BLACKBOARD).convert("L")
    image = Image.new("LA", opacity.size, ink)
    image.putalpha(opacity)
    return encode(image, "PNG")


def turned(image: Image.Image, orientation: int, format_name: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(image, format_name, exif=exif)


def empty_sheet() -> npt.NDArray[np.uint8]:
    """Contrast without ink: white paper, lit from one side."""
    return np.tile(np.linspace(60, 220, 200), (200, 1)).astype(np.uint8)


@pytest.mark.parametrize("digit", range(10))
def test_none_for_light_ink_on_black(digit: int) -> None:
    drawing = encode(draw(digit, seed=1, paper=BLACKBOARD), "PNG")
    for fit in Fit:
        assert warnings(drawing, spec(fit)) == []
    normalized = preprocessing.decode(drawing, spec(Fit.DIGIT))
    for fit in Fit:
        assert warnings(png(normalized), spec(fit)) == []


def test_dark_ink_is_inverted_for_a_digit_only() -> None:
    sheet = encode(draw(3, seed=1, paper=SHEET), "PNG")
    assert warnings(sheet, spec(Fit.DIGIT)) == ["inverted"]
    assert warnings(sheet, spec(Fit.PAD, 3)) == []


def test_transparency() -> None:
    assert warnings(see_through(ink=0), spec(Fit.DIGIT)) == ["transparency-flattened", "inverted"]
    assert warnings(see_through(ink=255), spec(Fit.DIGIT)) == ["transparency-flattened"]
    for channels in (1, 3):
        assert warnings(see_through(), spec(Fit.STRETCH, channels)) == ["transparency-flattened"]


def test_none_for_an_alpha_channel_that_hides_nothing() -> None:
    opaque = encode(draw(3, seed=1, paper=BLACKBOARD).convert("RGBA"), "PNG")
    for fit in Fit:
        assert warnings(opaque, spec(fit)) == []


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_turned_by_exif(format_name: str) -> None:
    image = draw(3, seed=1, paper=BLACKBOARD)
    for orientation in range(2, 9):
        data = turned(image, orientation, format_name)
        assert warnings(data, spec(Fit.DIGIT)) == ["turned-by-exif"]
    for orientation in (0, 1, 9):
        assert warnings(turned(image, orientation, format_name), spec(Fit.DIGIT)) == []


@pytest.mark.parametrize(("size", "expected"), [((40, 30), ["squashed"]), ((41, 40), [])])
@pytest.mark.parametrize("upright", [True, False])
def test_squashed(size: tuple[int, int], expected: list[str], *, upright: bool) -> None:
    picture = draw(3, seed=1, paper=BLACKBOARD).resize(size if upright else size[::-1])
    data = encode(picture, "PNG")
    assert warnings(data, spec(Fit.STRETCH, 3)) == expected
    assert warnings(data, spec(Fit.PAD, 3)) == []
    assert warnings(data, spec(Fit.DIGIT)) == []


@pytest.mark.parametrize("shape", [(28, 28), (90, 90), (90, 90, 3)])
@pytest.mark.parametrize("gray", [0, 130, 255])
def test_blank(shape: tuple[int, ...], gray: int) -> None:
    data = png(np.full(shape, gray, np.uint8))
    for fit in Fit:
        assert warnings(data, spec(fit)) == ["blank"]


def test_a_plain_color_is_blank() -> None:
    data = png(np.full((20, 20, 3), (200, 30, 90), np.uint8))
    assert warnings(data, spec(Fit.PAD, 3)) == ["blank"]


def test_a_wholly_transparent_picture_is_blank() -> None:
    hidden: Any = np.random.default_rng(0).integers(0, 256, (40, 40, 4), np.uint8)
    hidden[:, :, 3] = 0
    for fit in Fit:
        assert warnings(png(hidden), spec(fit)) == ["transparency-flattened", "blank"]


def test_nothing_found_on_an_empty_sheet() -> None:
    assert warnings(png(empty_sheet()), spec(Fit.DIGIT)) == ["nothing-found"]
    assert warnings(png(empty_sheet()), spec(Fit.STRETCH)) == []


def test_what_is_left_out() -> None:
    sheet = np.asarray(draw(3, seed=1, paper=Paper(200, 200, (250,) * 3, (40,) * 3)).convert("L"))
    assert warnings(png(sheet), spec(Fit.DIGIT)) == ["inverted"]
    ruled, framed, stapled = (sheet.copy() for _ in range(3))
    for line in (20, 21, 180, 181):
        ruled[line] = np.minimum(ruled[line], 150)
    framed[:6] = framed[-6:] = framed[:, :6] = framed[:, -6:] = 60
    stapled[10:14, 10:30] = 60
    clean = preprocessing.decode(png(sheet), spec(Fit.DIGIT)).astype(int)
    for picture in (ruled, framed, stapled):
        assert warnings(png(picture), spec(Fit.DIGIT)) == ["other-ink", "inverted"]
        found = preprocessing.decode(png(picture), spec(Fit.DIGIT)).astype(int)
        assert np.abs(found - clean).sum() < 0.15 * clean.sum()


def test_ink_of_the_luminance_of_its_paper_is_seen_in_a_jpeg() -> None:
    paper = Paper(200, 200, (60, 150, 60), (220, 68, 60))
    picture = encode(draw(3, seed=1, paper=paper), "JPEG", quality=95, subsampling=0)
    luminance = images.decode(picture, gray=True)
    assert np.ptp(luminance) < 40
    assert "nothing-found" not in warnings(picture, spec(Fit.DIGIT))
    assert preprocessing.decode(picture, spec(Fit.DIGIT)).any()


def test_an_array_is_reported_on_like_the_same_picture_encoded() -> None:
    picture = np.asarray(draw(3, seed=1, paper=SHEET))
    for fit in Fit:
        reported: list[ImageWarning] = []
        preprocessing.from_array(picture, spec(fit), warn=reported.append)
        assert reported == warnings(png(picture), spec(fit))


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_what_is_encoded_is_decoded_again(shape: tuple[int, ...]) -> None:
    samples = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(images.decode(images.encode_png(samples)), samples)
