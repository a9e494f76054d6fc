import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from logitserve.inference import preprocessing
from logitserve.inference.predictor import Predictor
from logitserve_training import drawings, pipeline, recipes
from logitserve_training.datasets import scenes
from logitserve_training.datasets.dataset import Dataset, LabeledImages
from logitserve_training.progress import Reporter
from logitserve_training.recipes import SCENE_INPUT, Options
from tests.training.measured import evaluate_file


@pytest.fixture(scope="module")
def digits() -> LabeledImages:
    drawn = [np.asarray(drawings.draw(digit, seed=1).convert("L")) for digit in range(10)]
    return LabeledImages(np.stack(drawn)[..., None], np.arange(10))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("TRAIN_SIZE", 400), ("VALIDATION_SIZE", 100), ("TEST_SIZE", 150)):
        monkeypatch.setattr(scenes, name, size)


def test_a_scene_has_up_to_four_digits_and_says_which(digits: LabeledImages) -> None:
    composed = scenes.compose(digits, count=300, seed=(1,))
    assert composed.images.shape == (300, 56, 56, 1)
    assert composed.classes.shape == (300, 10)
    counts = composed.classes.sum(axis=1)
    assert set(counts) == {0, 1, 2, 3, 4}
    assert (composed.images.any(axis=(1, 2, 3)) == (counts > 0)).all()
    assert 0.1 < composed.classes.mean(axis=0).min() <= composed.classes.mean(axis=0).max() < 0.3


def test_digits_are_of_many_sizes_and_anywhere(digits: LabeledImages) -> None:
    composed = scenes.compose(digits, count=300, seed=(2,))
    alone = composed.images[composed.classes.sum(axis=1) == 1, :, :, 0]
    heights = [int(np.ptp(np.flatnonzero(scene.any(axis=1)))) + 1 for scene in alone]
    assert min(heights) < 18
    assert max(heights) > 22
    rows, columns = np.nonzero(alone.max(axis=0))
    assert (rows.min(), columns.min()) <= (3, 3)
    assert (rows.max(), columns.max()) >= (52, 52)


def test_digits_hardly_overlap() -> None:
    """Solid squares in place of digits: what they cover together is nearly their sum."""
    squares = LabeledImages(np.zeros((10, 28, 28, 1), np.uint8), np.arange(10))
    squares.images[:, 4:24, 4:24] = np.arange(100, 110, dtype=np.uint8)[:, None, None, None]
    composed = scenes.compose(squares, count=100, seed=(3,))
    for scene, holds in zip(composed.images[..., 0], composed.classes, strict=True):
        areas = [int((scene == 100 + index).sum()) for index in np.flatnonzero(holds)]
        assert all(area > 20 for area in areas)


def test_the_seed_decides_which_scenes(digits: LabeledImages) -> None:
    first, again, other = (
        scenes.compose(digits, count=9, seed=(seed,)).images for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.usefixtures("small")
def test_each_part_is_of_its_own_digits_and_training_has_no_end(dataset: Dataset) -> None:
    found = scenes.from_digits(dataset)
    assert (found.info.train, found.info.validation, found.info.test) == (400, 100, 150)
    assert found.info.name == "scenes of MNIST"
    assert found.sha256 != dataset.sha256
    assert found.fresh is not None
    np.testing.assert_array_equal(found.fresh(0).images, found.train.images)
    assert (found.fresh(1).images != found.train.images).any()


def test_drawn_scenes_fit_the_network_as_they_are() -> None:
    first, *others = scenes.drawn(count=4)
    picture = Image.open(io.BytesIO(first))
    assert (picture.size, picture.mode) == ((56, 56), "L")
    np.testing.assert_array_equal(
        preprocessing.decode(first, SCENE_INPUT)[:, :, 0], np.asarray(picture)
    )
    assert all(other != first for other in others)


@pytest.mark.usefixtures("small")
def test_the_recipe_publishes_a_model_with_thresholds(data: Path, tmp_path: Path) -> None:
    published = pipeline.train(
        recipes.find("scenes"),
        Options(epochs=1, batch_size=64, learning_rate=5e-3),
        data=data,
        models=tmp_path,
        console=Console(quiet=True),
    )
    card = Predictor.load(published.path).card
    assert card.thresholds is not None
    assert all(0 < threshold < 1 for threshold in card.thresholds)
    assert card.labels == tuple("0123456789")
    assert {"macro_f1", "mean_average_precision"} <= published.metrics.keys()
    again = evaluate_file(published.path, data, Reporter(Console(quiet=True)))
    assert again.metrics == published.metrics
