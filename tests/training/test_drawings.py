import io

import numpy as np
import pytest
from PIL import Image

from logitserve.inference import preprocessing
from logitserve_training.drawings import MNIST_LIKE, SHEET, Paper, draw, to_png
from logitserve_training.recipes import DIGIT_INPUT


@pytest.mark.parametrize("digit", range(10))
@pytest.mark.parametrize("paper", [MNIST_LIKE, SHEET])
def test_a_digit_is_drawn_inside_the_paper(digit: int, paper: Paper) -> None:
    picture = np.asarray(draw(digit, seed=1, paper=paper))
    assert picture.shape == (paper.height, paper.width, 3)
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert (border == paper.paper).all()
    inked = (picture != paper.paper).any(axis=2).mean()
    assert 0.03 < inked < 0.35


def test_the_seed_decides_how_it_is_drawn() -> None:
    first, again, other = (np.asarray(draw(3, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_png_file_holds_the_very_pixels() -> None:
    picture = draw(5, seed=1)
    png = to_png(picture)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), np.asarray(picture))


@pytest.mark.parametrize("digit", range(10))
def test_on_a_sheet_it_becomes_light_on_black_as_in_mnist(digit: int) -> None:
    image = preprocessing.decode(to_png(draw(digit, seed=1, paper=SHEET)), DIGIT_INPUT)[:, :, 0]
    assert image[[0, -1]].max() == 0
    rows, columns = np.indices(image.shape)
    center = [float((axis * image).sum() / image.sum()) for axis in (rows, columns)]
    assert center == pytest.approx([13.5, 13.5], abs=1.0)
