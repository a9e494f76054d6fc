"""An image without ink is not known, by whatever way it came."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFilter

from logitserve.inference import ink, preprocessing
from logitserve.inference.card import Fit, InputSpec
from logitserve.inference.predictor import Predictor
from logitserve.inference.preprocessing import Prepared
from logitserve.inference.repository import ModelRepository
from logitserve.scoring import Picture, score
from logitserve_training.drawings import SHEET, draw, to_png

DIGIT = InputSpec(height=28, width=28, channels=1, fit=Fit.DIGIT)
REPOSITORY = ModelRepository(Path(__file__).parents[3] / "models")
MODELS = ("digits", "digits-mlp", "softmax-regression", "zero")

Sheet = npt.NDArray[np.float64]
SIDE = 300


def plane(angle: float) -> Sheet:
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    return np.asarray(x * np.cos(angle) + y * np.sin(angle))


def table(generator: np.random.Generator) -> Sheet:
    sheet = np.full((SIDE, SIDE), 70.0)
    left, top = generator.integers(10, 80, 2)
    sheet[top:-top, left:-left] = 225
    return sheet


def grain(generator: np.random.Generator) -> Sheet:
    rough = np.clip(generator.normal(128, 60, (SIDE, SIDE)), 0, 255).astype(np.uint8)
    smooth = Image.fromarray(rough).filter(ImageFilter.GaussianBlur(3))
    return np.asarray(smooth, np.float64) / 4 + 170


EMPTY: dict[str, Callable[[np.random.Generator], Sheet]] = {
    "black": lambda _: np.zeros((SIDE, SIDE)),
    "white": lambda _: np.full((SIDE, SIDE), 255.0),
    "gray": lambda g: np.full((SIDE, SIDE), g.uniform(40, 220)),
    "lit from one side": lambda g: 190 + 60 * plane(g.uniform(0, 6)),
    "vignette": lambda _: 230 - 120 * (plane(0) ** 2 + plane(np.pi / 2) ** 2),
    "fold": lambda g: 220 - 20 * np.exp(-((plane(g.uniform(0, 3)) / 0.01) ** 2)),
    "edge of a shadow": lambda g: 220 - 80 / (1 + np.exp(-plane(g.uniform(0, 6)) / 0.02)),
    "sheet on a table": table,
    "grain": grain,
    "stripes": lambda g: 200 + 40 * np.sign(np.sin(60 * plane(g.uniform(0, 3)))),
}


def sheets(kind: str) -> list[npt.NDArray[np.uint8]]:
    """Without noise, and with as much as a camera has; as they are, and as a thumbnail."""
    generator = np.random.default_rng(list(EMPTY).index(kind))
    drawn = [
        np.clip(EMPTY[kind](generator) + generator.normal(0, sigma, (SIDE, SIDE)), 0, 255)
        for sigma in (0, 2, 3, 5)
    ]
    return [sheet.astype(np.uint8) for sheet in drawn]


@pytest.mark.parametrize("kind", EMPTY)
@pytest.mark.parametrize("model", MODELS)
def test_nothing_is_known_of_an_empty_sheet(model: str, kind: str) -> None:
    predictor = Predictor.load(REPOSITORY.model_file(model))
    found = predictor.predict(preprocessing.prepare(sheets(kind), DIGIT)).known
    assert found is not None
    assert not found.any()
    pictures = [Picture(str(n), lambda sheet=s: png(sheet)) for n, s in enumerate(sheets(kind))]  # type: ignore[misc]
    for row in score(predictor, pictures):
        assert row.scores is not None
        assert row.scores.known is False


@pytest.mark.parametrize("side", [97, 112, 127, 128])
@pytest.mark.parametrize("model", MODELS)
def test_what_is_shrunk_to_a_small_overview_is_a_photograph_still(model: str, side: int) -> None:
    framed, stapled = np.full((2, side, side), 235, np.uint8)
    framed[5:-5, 5:-5] = 40
    framed[8:-8, 8:-8] = 235
    stapled[6:8, 6:12] = 40
    predictor = Predictor.load(REPOSITORY.model_file(model))
    known = predictor.predict(preprocessing.prepare([framed, stapled], DIGIT)).known
    assert known is not None
    assert not known.any()


@pytest.mark.parametrize("sigma", [0, 3, 5, 8])
@pytest.mark.parametrize("model", MODELS)
def test_nothing_is_known_of_noisy_paper_of_the_size_of_the_input(model: str, sigma: int) -> None:
    generator = np.random.default_rng(sigma)
    noisy = np.clip(generator.normal(230, sigma, (20, 28, 28)), 0, 255).astype(np.uint8)
    predictor = Predictor.load(REPOSITORY.model_file(model))
    for images in (preprocessing.prepare(list(noisy), DIGIT), noisy[..., np.newaxis]):
        known = predictor.predict(images).known
        assert known is not None
        assert not known.any()


@pytest.mark.parametrize("model", [model for model in MODELS if model != "digits"])
def test_digits_that_were_cut_out_have_ink(model: str) -> None:
    predictor = Predictor.load(REPOSITORY.model_file(model))
    drawn = [np.asarray(draw(n % 10, seed=n, paper=SHEET).convert("L")) for n in range(60)]
    odd = predictor.odd(preprocessing.prepare(drawn, DIGIT))
    assert odd is not None
    assert not odd.any()


def test_numbers_by_hand() -> None:
    ring = np.zeros((1, 28, 28, 1), np.uint8)
    ring[0, 5:20, 5:20] = 255
    ring[0, 8:17, 8:17] = 0
    mass, width, inside, euler = ink.numbers(ring, DIGIT)[0]
    assert mass == 15 * 15 - 9 * 9
    assert width == pytest.approx(3, rel=0.05)
    assert inside == pytest.approx((13 * 13 - 11 * 11 + 4) / mass)  # and the inner corners
    assert euler == 0  # one piece, one hole
    dots = np.zeros((1, 28, 28, 1), np.uint8)
    dots[0, 4:24:4, 4:24:4] = 255
    assert ink.numbers(dots, DIGIT)[0, 3] == 25


def test_a_photograph_without_contrast_is_odd_where_the_training_had_none() -> None:
    spec = InputSpec(height=8, width=8, channels=3, fit=Fit.PAD)
    photographs = np.random.default_rng(0).integers(0, 256, (50, *spec.shape), dtype=np.uint8)
    within = ink.ranges(photographs, spec)
    assert not ink.are_odd(photographs, spec, within).any()
    assert ink.are_odd(np.full((1, *spec.shape), 200, np.uint8), spec, within).all()


def test_batches_that_are_put_together_keep_what_was_found() -> None:
    one, other = (
        preprocessing.prepare(images, DIGIT)
        for images in (
            sheets("gray")[:2],
            [np.asarray(draw(3, seed=1).convert("L")), *sheets("black")],
        )
    )
    both = preprocessing.together([one, other])
    assert len(both.images) == 7
    assert both.fitted == [0, 1, 3, 4, 5, 6]
    assert both.empty == both.fitted
    assert isinstance(both, Prepared)


def png(sheet: npt.NDArray[np.uint8]) -> bytes:
    return to_png(Image.fromarray(sheet))
