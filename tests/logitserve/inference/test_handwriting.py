"""Pictures that the tests draw themselves, and scikit-learn's bundled digits; none of MNIST."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from logitserve.inference.mnist.form import CENTER_TOLERANCE, are_normalized, box_side
from logitserve.inference.mnist.normalize import Gray, normalize

# A 2 and a 5 as polylines in a 1×1 box: neither is symmetric, one has corners.
TWO = [(0.1, 0.25), (0.3, 0.03), (0.65, 0.03), (0.8, 0.3), (0.1, 1.0), (0.9, 1.0)]
FIVE = [(0.8, 0.0), (0.2, 0.0), (0.2, 0.45), (0.6, 0.4), (0.85, 0.7), (0.55, 1.0), (0.1, 0.95)]


def drawn(
    *,
    side: int = 280,
    size: float = 120,
    pen: int = 14,
    at: tuple[float, float] = (80, 70),
    points: list[tuple[float, float]] = TWO,
) -> Gray:
    """Light ink, 255, on 0: uint8, `[side, side]`; the digit is `size` high, its corner `at`."""
    image = Image.new("L", (side, side))
    line = [(at[0] + x * size, at[1] + y * size) for x, y in points]
    pencil = ImageDraw.Draw(image)
    pencil.line(line, fill=255, width=pen)
    for x, y in line:
        pencil.ellipse([x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2], fill=255)
    return np.asarray(image)


def difference(one: Gray, other: Gray) -> float:
    """Mean absolute difference over mean ink: 0 is equal, 2 is nothing in common.

    The least over shifts by a pixel, because centering rounds to whole pixels.
    """
    ink = (float(one.sum()) + float(other.sum())) / 2
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    moved = [np.roll(one.astype(float), shift, axis=(0, 1)) for shift in shifts]
    return min(float(np.abs(each - other).sum()) for each in moved) / ink


def extent(digit: Gray) -> tuple[int, int]:
    rows, columns = np.flatnonzero(digit.any(axis=1)), np.flatnonzero(digit.any(axis=0))
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def center_of_mass(digit: Gray) -> tuple[float, float]:
    y, x = np.indices(digit.shape)
    return float(np.average(y, weights=digit)), float(np.average(x, weights=digit))


def is_normalized(image: Gray) -> bool:
    """The definition, in plain steps."""
    if image.max() < 254:
        return False
    longest = box_side(*image.shape)
    centered = []
    for axis in (0, 1):
        profile = image.sum(axis=1 - axis, dtype=np.int64)
        inked = np.flatnonzero(profile)
        offset = int(profile @ np.arange(len(profile))) / int(profile.sum()) - len(profile) // 2
        blocked = inked[0] == 0 if offset > 0 else inked[-1] == len(profile) - 1
        centered.append(abs(offset) <= CENTER_TOLERANCE or blocked)
    return max(extent(image)) in (longest - 1, longest) and all(centered)


REFERENCE = normalize(drawn(), None)


@pytest.mark.parametrize("points", [TWO, FIVE])
def test_size_center_and_contrast_are_those_of_mnist(points: list[tuple[float, float]]) -> None:
    digit = normalize(drawn(points=points), None)
    assert digit.shape == (28, 28)
    assert max(extent(digit)) == 20
    assert center_of_mass(digit) == pytest.approx((14, 14), abs=0.51)
    assert digit.max() == 255
    assert digit[0, 0] == 0


def test_dark_ink_on_light_paper_gives_the_same() -> None:
    assert difference(normalize(255 - drawn(), None), REFERENCE) < 0.01


def test_faint_ink_on_gray_paper_gives_the_same() -> None:
    faint = (150 - drawn().astype(float) * 0.2).astype(np.uint8)
    assert difference(normalize(faint, None), REFERENCE) < 0.1


@pytest.mark.parametrize("at", [(10, 10), (150, 8), (8, 150), (150, 150)])
def test_the_place_does_not_matter(at: tuple[float, float]) -> None:
    assert difference(normalize(drawn(at=at), None), REFERENCE) < 0.1


@pytest.mark.parametrize(("side", "size", "pen"), [(56, 24, 3), (140, 60, 7), (2000, 840, 98)])
def test_the_size_does_not_matter(side: int, size: float, pen: int) -> None:
    picture = drawn(side=side, size=size, pen=pen, at=(side / 4, side / 4))
    assert difference(normalize(picture, None), REFERENCE) < 0.25


def test_a_small_digit_on_a_large_sheet_keeps_its_shape() -> None:
    digit = normalize(drawn(side=1600, at=(1200, 300)), None)
    assert difference(digit, REFERENCE) < 0.1


def test_a_digit_that_touches_every_edge_is_kept_whole() -> None:
    scan = drawn(side=16, size=13, pen=3, at=(1, 1))
    rows, columns = np.flatnonzero(scan.any(axis=1)), np.flatnonzero(scan.any(axis=0))
    tight = scan[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert difference(normalize(tight, None), normalize(scan, None)) < 0.05
    assert difference(normalize(255 - tight, None), normalize(scan, None)) < 0.05


@pytest.mark.parametrize("pen", [2, 6, 14, 24, 34])
def test_strokes_end_up_as_wide_as_those_of_mnist(pen: int) -> None:
    digit = normalize(drawn(size=160, pen=pen, at=(50, 50)), None)
    # The outline of a stroke is twice its length, so ink over length is the width.
    scale = 20 / (160 + pen)
    length = scale * 160 * sum(np.hypot(*np.diff(TWO, axis=0).T))
    assert 1.2 < float(digit.sum()) / 255 / length < 4.5


@pytest.mark.parametrize("ink", [0, 60, 200, 255])
def test_strokes_on_a_transparent_background(ink: int) -> None:
    opacity = drawn()
    digit = normalize(np.full_like(opacity, ink), opacity)
    assert difference(digit, REFERENCE) < 0.02


def test_what_lies_under_full_transparency_does_not_matter() -> None:
    opacity = drawn()
    noise = np.random.default_rng(0).integers(0, 256, opacity.shape, np.uint8)
    luminance = np.where(opacity > 0, 20, noise).astype(np.uint8)
    assert difference(normalize(luminance, opacity), REFERENCE) < 0.02


def test_an_opaque_alpha_channel_changes_nothing() -> None:
    opaque = np.full((280, 280), 255, np.uint8)
    assert difference(normalize(255 - drawn(), opaque), REFERENCE) < 0.01


def test_a_sheet_with_transparent_margins() -> None:
    opacity = np.zeros((280, 280), np.uint8)
    opacity[20:260, 20:260] = 255
    assert difference(normalize(255 - drawn(), opacity), REFERENCE) < 0.05


def lit(light: npt.NDArray[np.floating[Any]], *, noise: float = 3) -> Gray:
    """Dark ink on paper in that light, `[280, 280]` or what broadcasts to it, with noise."""
    paper = 240 * light * (1 - 0.8 * drawn() / 255)
    grain = np.random.default_rng(0).normal(0, noise, paper.shape)
    return (paper + grain).clip(0, 255).astype(np.uint8)


ACROSS = np.linspace(-1, 1, 280)
LIGHTS = {
    "gradient": 0.7 + 0.3 * ACROSS,
    "slope": 0.7 + 0.15 * ACROSS + 0.15 * ACROSS[:, np.newaxis],
    "vignette": 1 - 0.3 * ACROSS**2 - 0.3 * ACROSS[:, np.newaxis] ** 2,
    "shadow": np.where(ACROSS < 0.1, 0.55, 1.0),
}


@pytest.mark.parametrize("light", LIGHTS.values(), ids=LIGHTS)
def test_uneven_light(light: npt.NDArray[np.floating[Any]]) -> None:
    assert difference(normalize(lit(light), None), REFERENCE) < 0.2
    assert difference(normalize(255 - lit(light), None), REFERENCE) < 0.2


def test_noise_specks_and_ruled_lines() -> None:
    picture = lit(np.ones(280), noise=8)
    picture[30::40] = np.minimum(picture[30::40], 180)
    for y, x in [(9, 9), (15, 250), (260, 40), (200, 262)]:
        picture[y : y + 3, x : x + 3] = 20
    assert difference(normalize(picture, None), REFERENCE) < 0.2


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (28, 28), (300, 200)])
@pytest.mark.parametrize("gray", [0, 128, 255])
def test_a_blank_picture_becomes_black(shape: tuple[int, int], gray: int) -> None:
    blank = np.full(shape, gray, np.uint8)
    assert not normalize(blank, None).any()
    assert not normalize(blank, np.zeros(shape, np.uint8)).any()


def test_noise_without_ink_becomes_black() -> None:
    noise = np.random.default_rng(0).normal(230, 2, (200, 200)).astype(np.uint8)
    assert not normalize(noise, None).any()


def test_a_normalized_picture_comes_back_as_it_is() -> None:
    assert is_normalized(REFERENCE)
    assert normalize(REFERENCE, None) is REFERENCE


@pytest.mark.parametrize(
    "spoil",
    [
        lambda digit: 255 - digit,
        lambda digit: np.roll(digit, 2, axis=0),
        lambda digit: np.roll(digit, -2, axis=1),
        lambda digit: digit // 2,
        lambda digit: digit[4:24, 4:24],
        lambda digit: np.pad(digit, 2),
    ],
    ids=["inverse", "low", "left", "faint", "tight", "wide"],
)
def test_a_spoiled_picture_is_found_and_mended(spoil: Callable[[Gray], Gray]) -> None:
    spoiled = spoil(REFERENCE)
    assert not is_normalized(spoiled)
    assert difference(normalize(spoiled, None), REFERENCE) < 0.15


def test_black_is_not_normalized() -> None:
    assert not is_normalized(np.zeros((28, 28), np.uint8))


def test_handwriting_of_other_people() -> None:
    """8×8 and tight: each is found, whichever the polarity."""
    digits = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    for picture in digits[::20]:
        light, dark = normalize(picture, None), normalize(255 - picture, None)
        assert is_normalized(light)
        assert difference(light, dark) < 0.01


def test_the_smallest_pictures() -> None:
    generator = np.random.default_rng(0)
    for height, width, _ in np.ndindex(7, 90, 3):
        picture = generator.choice([0, 255], (height + 1, width + 1)).astype(np.uint8)
        for turned in (picture, picture.T):
            digit = normalize(turned, None)
            assert not digit.any() or is_normalized(digit)


@given(
    luminance=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=90)),
    channels=st.sampled_from(["L", "LA"]),
    size=st.sampled_from([(28, 28), (32, 32), (20, 36), (1, 1), (7, 5)]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=80)
def test_any_picture_gives_black_or_a_normalized_one(
    luminance: Gray, channels: str, size: tuple[int, int], seed: int
) -> None:
    height, width = size
    grain = np.random.default_rng(seed).integers(0, 256, luminance.shape, np.uint8)
    digit = normalize(luminance, grain if channels == "LA" else None, height=height, width=width)
    assert digit.shape == size
    assert digit.dtype == np.uint8
    assert not digit.any() or is_normalized(digit)
    assert np.array_equal(normalize(digit, None, height=height, width=width), digit)


@given(
    noise=hnp.arrays(np.uint8, (3, 28, 28)),
    moves=st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=9, max_size=9),
    peaks=st.lists(st.integers(252, 255), min_size=9, max_size=9),
    grown=st.booleans(),
)
@settings(deadline=None, max_examples=80)
def test_a_batch_is_judged_as_its_images_are(
    noise: Gray, moves: list[tuple[int, int]], peaks: list[int], *, grown: bool
) -> None:
    digits = [
        np.roll(np.minimum(REFERENCE, peak), move, axis=(0, 1))
        for move, peak in zip(moves, peaks, strict=True)
    ]
    batch = np.stack([REFERENCE, *digits, *noise, np.zeros((28, 28), np.uint8)])
    if grown:
        batch = np.pad(batch, [(0, 0), (0, 1), (0, 0)])
    judged = are_normalized(batch).tolist()
    assert judged == [is_normalized(image) for image in batch]
    assert judged == [are_normalized(image[np.newaxis])[0] for image in batch]
    assert any(judged) or grown


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=30)),
    st.integers(0, 9),
    st.integers(0, 9),
)
@settings(deadline=None)
def test_images_of_any_shape_are_judged(noise: Gray, above: int, before: int) -> None:
    """Padded, so that some are of the size and the center; the brightest is brightened."""
    images = np.pad(noise, [(0, 0), (above, 4), (before, 4)])
    images = np.where(images == images.max(axis=(1, 2), keepdims=True), 255, images)
    images = images.astype(np.uint8)
    assert are_normalized(images).tolist() == [is_normalized(image) for image in images]


def test_moments_of_long_rows_do_not_overflow() -> None:
    image = np.zeros((20, 9000), np.uint8)
    image[3:17, 4495:4506] = 255
    images = np.stack([image, *(np.roll(image, shift, axis=1) for shift in (1, 4000, -4000))])
    images = np.stack([*images, np.full_like(image, 255)])
    assert are_normalized(images).tolist() == [True, False, False, False, False]
    assert are_normalized(images).tolist() == [is_normalized(each) for each in images]


@pytest.mark.parametrize("side", [60, 200])
@pytest.mark.parametrize("points", [TWO, FIVE])
@pytest.mark.parametrize("at", [(0, 0), (1, 0), (1, 1)])
def test_a_digit_that_fills_a_photograph_is_not_cut_off(
    at: tuple[int, int], points: list[tuple[float, float]], side: int
) -> None:
    """It touches a side, two, or was cut out as a square around it."""
    scan = drawn(side=side * 2, size=side * 0.9, pen=side // 12, at=(side / 2,) * 2, points=points)
    rows, columns = np.flatnonzero(scan.any(axis=1)), np.flatnonzero(scan.any(axis=0))
    top = int(rows[0]) if at[0] == 0 else int(rows[-1]) + 1 - side
    left = int(columns[0]) if at[1] == 0 else int(columns[-1]) + 1 - side
    found: list[str] = []
    normalize(255 - scan[top : top + side, left : left + side], None, warn=found.append)
    assert found == ["inverted"]


@pytest.mark.parametrize("side", [28, 60, 200])
def test_what_goes_along_a_side_or_from_side_to_side_is_cut_off(side: int) -> None:
    strip, fold, ruled = (np.full((side, side), 240, np.uint8) for _ in range(3))
    strip[:, : side // 10] = 90
    fold[:, side // 2 : side // 2 + side // 14] = 150
    ruled[side // 14 :: side // 7] = 150
    for picture in (strip, fold, ruled):
        found: list[str] = []
        normalize(picture, None, warn=found.append)
        assert {"cut-off", "nothing-found"} & set(found)


def test_a_small_digit_on_a_noisy_sheet_is_not_taken_for_paper() -> None:
    picture = drawn(side=300, size=24, pen=3, at=(200, 60)).astype(float)
    noise = np.random.default_rng(0).normal(0, 3, picture.shape)
    sheet = (235 - 0.7 * picture + noise).clip(0, 255).astype(np.uint8)
    assert difference(normalize(sheet, None), REFERENCE) < 0.4
