import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from logitserve.inference import images, preprocessing
from logitserve.inference.card import Fit, InputSpec
from logitserve.inference.errors import PixelArrayError, TooManyPixelsError, UnreadableImageError
from logitserve_training.drawings import draw
from tests.logitserve.inference.test_handwriting import REFERENCE
from tests.tiny_models import encode, png


def spec(height: int, width: int, channels: int = 1, fit: Fit = Fit.STRETCH) -> InputSpec:
    return InputSpec.model_validate(
        {"height": height, "width": width, "channels": channels, "fit": fit}
    )


GRAY = spec(6, 8)
COLOR = spec(6, 8, 3)


def gray_picture(seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (6, 8), dtype=np.uint8)


def color_picture(seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_a_png_of_the_right_size_arrives_untouched(picture: npt.NDArray[np.uint8]) -> None:
    found = preprocessing.decode(png(picture), spec(*picture.shape))
    np.testing.assert_array_equal(found[:, :, 0], picture)


@pytest.mark.parametrize(
    ("format_name", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("GIF", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_lossless_formats_give_the_exact_pixels(format_name: str, options: dict[str, Any]) -> None:
    picture = gray_picture()
    data = encode(Image.fromarray(picture), format_name, **options)
    np.testing.assert_array_equal(preprocessing.decode(data, GRAY)[:, :, 0], picture)


def test_a_jpeg_is_near() -> None:
    picture = np.full((6, 8, 3), (200, 30, 90), np.uint8)
    found = preprocessing.decode(encode(Image.fromarray(picture), "JPEG", quality=95), COLOR)
    np.testing.assert_allclose(found.astype(int), picture, atol=4)


def test_color_becomes_luminance_where_the_model_has_one_channel() -> None:
    picture = color_picture()
    expected = picture @ np.array([0.299, 0.587, 0.114])  # ITU-R 601-2
    np.testing.assert_allclose(preprocessing.decode(png(picture), GRAY)[:, :, 0], expected, atol=1)


def test_luminance_becomes_color_where_the_model_has_three_channels() -> None:
    picture = gray_picture()
    found = preprocessing.decode(png(picture), COLOR)
    for channel in range(3):
        np.testing.assert_array_equal(found[:, :, channel], picture)


def test_a_palette_is_resolved() -> None:
    image = Image.fromarray(color_picture()).quantize(16)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(preprocessing.decode(encode(image, "PNG"), COLOR), expected)


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    samples = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    found = preprocessing.decode(encode(Image.fromarray(samples), "PNG"), spec(1, 5))
    assert found[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_one_bit_is_black_and_white() -> None:
    image = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert preprocessing.decode(encode(image, "PNG"), spec(1, 2))[0, :, 0].tolist() == [0, 255]


def test_cmyk_becomes_color() -> None:
    image = Image.new("CMYK", (8, 6), (0, 255, 255, 0))
    found = preprocessing.decode(encode(image, "JPEG", quality=95), COLOR)
    np.testing.assert_allclose(found.astype(int), np.full((6, 8, 3), (255, 0, 0)), atol=8)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_shows_white_paper(mode: str) -> None:
    image = Image.new("RGBA", (8, 6), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 6))
    data = encode(image.convert(mode), "PNG")
    found = preprocessing.decode(data, COLOR)
    assert (found[:, :4] == 0).all()
    assert (found[:, 4:] == 255).all()


def test_a_transparent_color_of_a_palette_shows_white_paper() -> None:
    image = Image.new("P", (8, 6), 1)
    image.putpalette([10, 20, 30, 0, 0, 0])
    image.paste(0, (0, 0, 4, 6))
    found = preprocessing.decode(encode(image, "GIF", transparency=1), COLOR)
    assert (found[:, :4] == (10, 20, 30)).all()
    assert (found[:, 4:] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = np.repeat(np.repeat([[0, 80], [160, 240]], 16, axis=0), 16, axis=1).astype(np.uint8)
    undo: dict[int, list[Image.Transpose]] = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    image = Image.fromarray(upright)
    for step in undo[orientation]:
        image = image.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = preprocessing.decode(encode(image, "JPEG", quality=95, exif=exif), spec(32, 32))
    np.testing.assert_allclose(found[8::16, 8::16, 0].astype(int), [[0, 80], [160, 240]], atol=4)


def test_the_first_frame_of_an_animation_counts() -> None:
    first, second = (Image.fromarray(gray_picture(seed)) for seed in (1, 2))
    data = encode(first, "GIF", save_all=True, append_images=[second])
    np.testing.assert_array_equal(preprocessing.decode(data, GRAY)[:, :, 0], gray_picture(1))


def test_stretch_fills_the_input_and_shrinks_without_aliasing() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 64))  # [64, 128], one pixel wide
    found = preprocessing.decode(png(stripes), spec(8, 8))
    np.testing.assert_allclose(found.astype(int), 127, atol=4)


def test_pad_keeps_the_aspect() -> None:
    found = preprocessing.decode(png(np.full((10, 20), 255, np.uint8)), spec(8, 8, fit=Fit.PAD))
    assert found[:, :, 0].any(axis=1).tolist() == [False] * 2 + [True] * 4 + [False] * 2


def test_a_digit_is_normalized() -> None:
    paper = np.full((200, 120), 255, np.uint8)
    paper[40:160, 55:65] = 20
    found = preprocessing.decode(png(paper), spec(28, 28, fit=Fit.DIGIT))[:, :, 0]
    rows = np.flatnonzero(found.max(axis=1) > 60)
    assert 18 <= rows[-1] - rows[0] + 1 <= 22
    assert found[0, 0] == 0
    assert found.max() > 200


@pytest.mark.parametrize("fit", Fit)
def test_an_array_is_fitted_like_the_same_picture_encoded(fit: Fit) -> None:
    wanted = spec(28, 28, fit=fit)
    for picture in (color_picture(), gray_picture(), np.dstack([color_picture(), gray_picture()])):
        np.testing.assert_array_equal(
            preprocessing.from_array(picture, wanted), preprocessing.decode(png(picture), wanted)
        )


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2), (2, 2, 5), (1, 2, 2, 3), (0, 5), (5, 0, 3)])
def test_an_array_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(PixelArrayError):
        preprocessing.from_array(np.zeros(shape, np.uint8), GRAY)


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    data = encode(Image.new("L", (400, 300)), "PNG")
    assert preprocessing.decode(data, GRAY, max_pixels=120_000).shape == (6, 8, 1)
    with pytest.raises(TooManyPixelsError, match="400×300 = 120000 pixels; the limit is 119999"):
        preprocessing.decode(data[:60], GRAY, max_pixels=119_999)


@pytest.mark.parametrize("format_name", images.FORMATS)
def test_a_truncated_picture_is_refused(format_name: str) -> None:
    whole = encode(Image.fromarray(color_picture()).resize((64, 64)), format_name)
    for length in range(0, len(whole) - 40, max(1, len(whole) // 20)):
        with pytest.raises(UnreadableImageError):
            preprocessing.decode(whole[:length], COLOR)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with pytest.raises(UnreadableImageError):
        preprocessing.decode(data, GRAY)


@given(st.integers(0, 10_000), st.data())
def test_mutated_pictures_decode_or_are_refused(seed: int, data: st.DataObject) -> None:
    format_name = data.draw(st.sampled_from(images.FORMATS))
    mutated = bytearray(encode(Image.fromarray(color_picture(seed)), format_name))
    for _ in range(data.draw(st.integers(1, 8))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = preprocessing.decode(bytes(mutated), COLOR, max_pixels=10_000)
    except (UnreadableImageError, TooManyPixelsError):
        return
    assert found.shape == (6, 8, 3)
    assert found.dtype == np.uint8


def test_text_is_refused_with_the_formats() -> None:
    with pytest.raises(UnreadableImageError, match="send one of PNG, JPEG"):
        preprocessing.decode(b"<svg/>", GRAY)
    assert Image.open(io.BytesIO(png(gray_picture()))).format == "PNG"


def test_ink_that_differs_from_paper_in_color_alone_is_seen() -> None:
    # Both have luminance 104 (ITU-R 601-2).
    picture = np.full((90, 80, 3), (60, 130, 90), np.uint8)
    picture[20:70, 36:44] = (215, 50, 91)
    red_on_green = preprocessing.decode(png(picture), spec(28, 28, fit=Fit.DIGIT))
    drawn = np.full((90, 80), 255, np.uint8)
    drawn[20:70, 36:44] = 0
    black_on_white = preprocessing.decode(png(drawn), spec(28, 28, fit=Fit.DIGIT))
    np.testing.assert_allclose(red_on_green.astype(int), black_on_white.astype(int), atol=40)
    assert red_on_green.max() > 200


@pytest.mark.parametrize("shape", [(1, 1), (1, 20_000), (20_000, 1), (3, 5_000, 3), (5_000, 2, 4)])
@pytest.mark.parametrize("fit", Fit)
def test_pictures_of_any_shape_are_fitted(shape: tuple[int, ...], fit: Fit) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for wanted in (spec(28, 28, fit=fit), spec(1, 40, fit=fit)):
        assert preprocessing.from_array(picture, wanted).shape == wanted.shape


STACKED = (
    spec(28, 28, fit=Fit.DIGIT),
    *(spec(9, 14), spec(9, 14, 3), spec(9, 14, 3, Fit.PAD), spec(9, 14, 3, Fit.CROP)),
)


@given(
    seed=st.integers(0, 2**32),
    wanted=st.sampled_from(STACKED),
    count=st.sampled_from([1, 2, 5, 12]),
    alike=st.booleans(),
)
@settings(deadline=None, max_examples=80)
def test_a_stack_that_is_finished_is_each_image_fitted(
    seed: int, wanted: InputSpec, count: int, *, alike: bool
) -> None:
    rng = np.random.default_rng(seed)
    size = (wanted.height, wanted.width)
    shapes = [size, (*size, 2), (*size, 3), (*size, 4), size[::-1], (size[0] // 2, size[1] * 2)]
    if alike:
        shapes = [size if wanted.channels == 1 else (*size, 3)]
    samples = [
        rng.integers(0, 256, shapes[rng.integers(len(shapes))], np.uint8) for _ in range(count)
    ]
    if wanted.fit is Fit.DIGIT:
        for index in range(0, count, 2):
            move = tuple(rng.integers(-1, 2, 2).tolist())
            samples[index] = np.roll(REFERENCE, move, axis=(0, 1))
    samples[-1] = samples[-1][::-1]  # not contiguous
    images, pending = preprocessing.stack(samples, wanted)
    expected = [preprocessing.fit(sample, wanted) for sample in samples]
    for index in set(range(count)) - set(pending):
        np.testing.assert_array_equal(images[index], expected[index])
    preprocessing.finish(images, samples, pending, wanted)
    np.testing.assert_array_equal(images, expected)


def test_only_what_is_not_final_is_pending() -> None:
    digits = [REFERENCE, np.roll(REFERENCE, 3, axis=0), np.dstack([REFERENCE] * 3), REFERENCE]
    assert preprocessing.stack(digits, STACKED[0])[1] == [1, 2]
    colors = [np.zeros((9, 14, channels), np.uint8) for channels in (3, 4, 3)]
    assert preprocessing.stack(colors, STACKED[2])[1] == [1]


def test_pictures_of_the_networks_size_are_left_as_they_were_sent_unless_they_are_plain() -> None:
    spec = InputSpec(height=28, width=28, channels=1, fit=Fit.DIGIT, as_sent=True)
    digit = np.asarray(draw(5, seed=3).convert("L"))
    noisy = np.random.default_rng(0).integers(0, 90, (28, 28), dtype=np.uint8)
    lined = np.maximum(digit, np.where(np.arange(28) == 20, np.uint8(200), np.uint8(0)))
    striped = digit.copy()
    striped[:, :9] = 255 - striped[:, :9]
    for picture in (
        digit,
        np.maximum(digit, noisy),
        lined,
        striped,
        np.roll(digit, (2, -2), (0, 1)),
    ):
        prepared = preprocessing.prepare([picture], spec)
        np.testing.assert_array_equal(prepared.images[0, :, :, 0], picture)
        np.testing.assert_array_equal(preprocessing.fit(picture, spec)[:, :, 0], picture)
        assert (list(prepared.fitted), list(prepared.empty)) == ([], [])
    cut_out = spec.model_copy(update={"as_sent": False})
    small = np.zeros((28, 28), np.uint8)
    small[2:12, 2:12] = digit[4:24:2, 4:24:2]
    aside = np.roll(small, (12, 12), (0, 1))
    for picture in (255 - digit, small, aside, 255 - small):
        prepared = preprocessing.prepare([picture], spec)
        assert list(prepared.fitted) == [0]
        np.testing.assert_array_equal(
            prepared.images, preprocessing.prepare([picture], cut_out).images
        )
    for blank in (0, 128, 255):
        assert preprocessing.prepare([np.full((28, 28), blank, np.uint8)], spec).empty == [0]
