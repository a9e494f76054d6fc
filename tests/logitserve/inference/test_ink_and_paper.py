"""What is reckoned here in a fraction of the time that libraries take, against them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from scipy import ndimage

from logitserve.inference.card import Fit, InputSpec
from logitserve.inference.ink import numbers
from logitserve.inference.mnist.segment import (
    Gray,
    Scene,
    array,
    closed,
    extended,
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
    np.testing.assert_array_equal(closed(picture, window), inner)


@given(light=arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=7, max_side=40)))
def test_light_goes_on_as_numpy_lets_it(light: Gray) -> None:
    beyond = np.pad(light.astype(np.int16), 6, mode="reflect", reflect_type="odd")
    reference = np.pad(beyond.clip(0, 255), 6, mode="edge")
    np.testing.assert_array_equal(extended(light.astype(np.int16), 6), reference)


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
