"""The compiled loops over pixels, and other short ways to a number, against libraries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from scipy import ndimage

from logitserve.inference.card import Fit, InputSpec
from logitserve.inference.ink import numbers
from logitserve.inference.mnist import components, contrast, handwriting, pixels, strokes
from logitserve.inference.mnist.segment import (
    Gray,
    Scene,
    array,
    monochrome,
    pillow,
    quantile,
    separate,
)

SPEC = InputSpec(height=28, width=28, channels=1, fit=Fit.DIGIT)
SIDES = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)


@given(
    values=arrays(np.uint8, st.integers(1, 300)) | arrays(np.float32, st.integers(1, 300)),
    share=st.floats(0, 1),
)
def test_a_quantile_is_that_of_numpy(values: Gray, share: float) -> None:
    values = np.nan_to_num(values, nan=0.0, posinf=255, neginf=-255).clip(-255, 255)
    reference = np.quantile(values.astype(np.float64), share)
    assert quantile(values, share) == pytest.approx(reference, abs=1e-9)


@given(picture=arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=33, max_side=50)),
       reach=st.integers(0, 8))  # fmt: skip
def test_a_closing_is_that_of_scipy(picture: Gray, reach: int) -> None:
    window, rim = 2 * reach + 1, 2 * reach
    reference = ndimage.grey_closing(picture, size=(window, window))
    inner = reference[rim : len(reference) - rim, rim : reference.shape[1] - rim]
    np.testing.assert_array_equal(pixels.closed(picture, window), inner)


@given(light=arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=7, max_side=40)))
def test_light_goes_on_as_numpy_lets_it(light: Gray) -> None:
    beyond = np.pad(light.astype(np.int16), 6, mode="reflect", reflect_type="odd")
    reference = np.pad(beyond.clip(0, 255), 6, mode="edge")
    np.testing.assert_array_equal(pixels.extended(light, 6), reference)


@given(gray=arrays(np.uint8, SIDES))
def test_gray_as_three_channels_is_that_gray(gray: Gray) -> None:
    colors = np.stack([gray] * 3, axis=-1)
    np.testing.assert_array_equal(monochrome(colors), gray)
    np.testing.assert_array_equal(np.asarray(Image.fromarray(colors).convert("L")), gray)


@given(gray=arrays(np.uint8, SIDES))
def test_images_are_those_of_pillow(gray: Gray) -> None:
    turned = gray.T[::-1]  # not contiguous
    assert pillow(turned) == Image.fromarray(np.ascontiguousarray(turned))
    np.testing.assert_array_equal(array(pillow(turned)), turned)


@given(
    gray=arrays(np.uint8, SIDES),
    paper=st.integers(0, 255),
    dark_ink=st.booleans(),
    photograph=st.booleans(),
)
def test_ink_on_even_paper_is_that_on_paper_of_many_pixels(
    *, gray: Gray, paper: int, dark_ink: bool, photograph: bool
) -> None:
    even = Scene(photograph, dark_ink, np.array(paper, np.uint8))
    each = even._replace(paper=np.full_like(gray, paper))
    np.testing.assert_array_equal(separate(gray, even), separate(gray, each))


@given(ink=arrays(np.uint8, (28, 28), elements=st.sampled_from([0, 0, 255])))
def test_pieces_less_holes_are_those_of_scipy(ink: Gray) -> None:
    pieces = ndimage.label(ink, np.ones((3, 3)))[1]
    holes = ndimage.label(np.pad(ink, 1) == 0)[1] - 1
    assert numbers(ink[np.newaxis, :, :, np.newaxis], SPEC)[0, 3] == pieces - holes


@given(gray=arrays(np.uint8, SIDES), factor=st.integers(1, 45))
def test_means_of_blocks_are_those_of_pillow(gray: Gray, factor: int) -> None:
    reference = np.asarray(Image.fromarray(gray).reduce(factor))
    np.testing.assert_array_equal(pixels.reduced(gray, factor), reference)


def test_blocks_of_a_very_long_image_are_added_without_overflow() -> None:
    for white in (np.full((3, 60_000), 255, np.uint8), np.full((60_000, 3), 255, np.uint8)):
        reference = np.asarray(Image.fromarray(white).reduce(30_000))
        np.testing.assert_array_equal(pixels.reduced(white, 30_000), reference)


@given(gray=arrays(np.uint8, SIDES), twice=st.integers(0, 510))
def test_borders_and_skewness_are_those_of_numpy(gray: Gray, twice: int) -> None:
    border = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
    np.testing.assert_array_equal(contrast.ascending_border(gray), np.sort(border))
    assert contrast.skewness(gray, twice / 2) == ((gray - twice / 2) ** 3).sum()
    around = np.full_like(gray, twice // 2)
    assert contrast.local_skewness(gray, around) == contrast.skewness(gray, twice // 2)


@given(ink=arrays(np.uint8, SIDES), share=st.sampled_from([2, 8, 256]))
def test_a_bounding_box_is_that_of_scipy(ink: Gray, share: int) -> None:
    boxes = ndimage.find_objects((ink > int(ink.max()) // share).astype(np.int8))
    rows, columns = boxes[0] if boxes else (slice(0, 0), slice(0, 0))
    expected = columns.start, rows.start, columns.stop, rows.stop
    assert pixels.bounding_box(ink, share) == expected


@given(ink=arrays(np.uint8, SIDES))
def test_slopes_are_those_of_numpy(ink: Gray) -> None:
    field = np.pad(ink.astype(np.float64), 1)
    down, across = field[1:, :-1] - field[:-1, :-1], field[:-1, 1:] - field[:-1, :-1]
    mass, outline, squares = strokes.slopes(ink)
    assert mass == ink.sum()
    assert outline == pytest.approx(np.hypot(down, across).sum())
    assert squares == (down**2 + across**2).sum()


@given(images=arrays(np.uint8, (3, 9, 7), elements=st.sampled_from([0, 1, 127, 128, 200, 255])))
def test_statistics_of_strokes_are_those_of_numpy(images: Gray) -> None:
    for image, found in zip(images, strokes.strokes(images), strict=True):
        mass, outline, _ = strokes.slopes(image)
        full = image >= 128
        cross = ndimage.generate_binary_structure(2, 1)
        inside = ndimage.binary_erosion(full, cross).sum() / max(full.sum(), 1)
        assert found[:3] == pytest.approx([mass / 255, 2 * mass / max(outline, 1), inside])


@given(colors=arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(3, 4)),
                     elements=st.sampled_from([7, 8])))  # fmt: skip
def test_only_gray_colors_are_copied(colors: Gray) -> None:
    gray = pixels.gray_of(colors)
    equal = (colors[:, :, :1] == colors[:, :, :3]).all()
    assert (gray is not None) == equal
    if gray is not None:
        np.testing.assert_array_equal(gray, np.asarray(Image.fromarray(colors).convert("L")))


@given(digit=arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_a_digit_is_centered_as_by_scipy(digit: Gray) -> None:
    digit[0, 0] |= 1  # there is ink
    field = pixels.centered(digit, 28, 28)
    assert field.sum() == digit.sum()
    for axis, (size, middle) in enumerate(
        zip(digit.shape, ndimage.center_of_mass(digit), strict=True)
    ):
        moved = ndimage.center_of_mass(field)[axis] - middle
        assert moved == pytest.approx(round(moved))  # by whole pixels
        assert moved == pytest.approx(min(max(14 - middle, 0), 28 - size), abs=0.501)


@given(ink=arrays(np.uint8, SIDES, elements=st.sampled_from([0, 90, 200])))
def test_the_largest_component_is_that_of_scipy(ink: Gray) -> None:
    ink[0, 0] |= 90
    pieces, count = ndimage.label(ink > ink.max() // 2, np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel())[1:]
    assert components.in_largest(ink) == pytest.approx(sizes.max() / sizes.sum())
    assert len(sizes) == count


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_pieces_are_the_components_with_their_edges(ink: Gray) -> None:
    found = [(piece.shape, piece.tobytes()) for piece in components.in_pieces(ink)]
    labels, count = ndimage.label(np.pad(ink >= 128, 1), np.ones((3, 3)))
    expected = []
    for number in range(1, count + 1):
        own = labels == number
        near = ndimage.binary_dilation(own, np.ones((3, 3))) & (labels == 0)
        (rows, columns), piece = np.nonzero(own), np.where(own | near, np.pad(ink, 1), 0)
        box = slice(rows.min() - 1, rows.max() + 2), slice(columns.min() - 1, columns.max() + 2)
        expected.append((piece[box].shape, piece[box].astype(np.uint8).tobytes()))
    assert sorted(found) == sorted(expected)


@given(on=arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=8, max_side=30)))
def test_the_main_component_is_one_of_those_of_scipy(on: Gray) -> None:
    """All its pieces are whole, and its dilation is that of scipy."""
    main, wider = (mask.view(np.bool_) for mask in components.main_components(on.view(np.uint8)))
    square = np.ones((3, 3))
    pieces, _ = ndimage.label(on, square)
    kept = np.unique(pieces[main])
    np.testing.assert_array_equal(main, np.isin(pieces, kept[kept > 0]))
    np.testing.assert_array_equal(wider, ndimage.binary_dilation(main, square))
    np.testing.assert_array_equal(handwriting.grown(main), wider)


def test_a_large_component_inside_is_preferred_to_one_along_the_border() -> None:
    on = np.zeros((40, 40), np.uint8)
    on[:, :6] = 1  # a shadow
    on[10:30, 20:24] = 1  # a 1
    on[12, 26] = 1  # a speck beside it
    main, _ = components.main_components(on)
    expected = np.zeros_like(on)
    expected[10:30, 20:24] = 1
    np.testing.assert_array_equal(main, expected)


@given(on=arrays(np.bool_, SIDES), down=st.integers(1, 6), across=st.integers(1, 6))
def test_sides_with_ink_are_those_of_numpy(on: Gray, down: int, across: int) -> None:
    bands = on[:down], on[-down:], on[:, :across], on[:, -across:]
    expected = sum(bool(band.any()) for band in bands)
    assert components.sides_with_ink(on.view(np.uint8), down, across) == expected


def test_arrays_that_do_not_fit_are_refused() -> None:
    """The loops are compiled, and must not read beyond an array."""
    gray = np.zeros((20, 30), np.uint8)
    other = np.zeros((20, 29), np.uint8)
    level = np.array(0, np.uint8)
    with pytest.raises(ValueError, match="not of the same shape"):
        contrast.separate(gray, dark_ink=True, paper=other, photograph=True)
    with pytest.raises(ValueError, match="not of the same shape"):
        contrast.local_skewness(gray, other)
    with pytest.raises(ValueError, match="not of the same shape"):
        components.share_outside(gray, other)
    with pytest.raises(ValueError, match="not inside the image"):
        contrast.contrasts(gray, other, 0, 2, dark_ink=True, paper=level, window=3)
    with pytest.raises(ValueError, match="too large"):
        pixels.closed(gray, 11)
    with pytest.raises(ValueError, match="not RGB"):
        pixels.gray_of(np.zeros((4, 4, 2), np.uint8))
    for function in (pixels.stretched, lambda digit: pixels.centered(digit, 28, 28)):
        with pytest.raises(ValueError, match="no ink"):
            function(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="contiguous"):
        strokes.slopes(gray[:, ::2])
    with pytest.raises(ValueError, match="mismatch"):
        strokes.slopes(gray.astype(np.int16))
