import numpy as np
import pytest

from logitserve.inference.predictor import INPUT
from logitserve_training.backend import keras
from logitserve_training.networks import STANDARDIZED, PixelStatistics, build
from logitserve_training.recipes import RECIPES, NetworkName, Recipe

SHAPE = (28, 28, 1)
STATISTICS = PixelStatistics(mean=0.1307, deviation=0.3081)


@pytest.mark.parametrize(
    ("name", "logits", "parameters"),
    [
        (NetworkName.LINEAR, 10, 784 * 10 + 10),
        (NetworkName.MLP, 10, 784 * 25 + 25 + 25 * 15 + 15 + 15 * 10 + 10),
        (NetworkName.MLP, 1, 784 * 25 + 25 + 25 * 15 + 15 + 15 * 1 + 1),
        (NetworkName.RESIDUAL_CNN, 10, 133_930),
        (NetworkName.DEEP_RESIDUAL_CNN, 10, 180_842),
        (NetworkName.SCENE_CNN, 10, 181_482),
    ],
)
def test_the_size_of_each_network(name: NetworkName, logits: int, parameters: int) -> None:
    shape = (56, 56, 1) if name is NetworkName.SCENE_CNN else SHAPE
    network = build(name, shape=shape, logits=logits, statistics=STATISTICS)
    assert network.count_params() == parameters
    assert parameters <= 200_000


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_pictures_go_in_as_bytes_and_logits_come_out(recipe: Recipe) -> None:
    network = build(recipe.network, shape=SHAPE, logits=3, statistics=STATISTICS)
    assert [(tensor.name, tensor.dtype) for tensor in network.inputs] == [(INPUT, "uint8")]
    assert network.layers[-1].activation.__name__ == "linear"
    images = np.random.default_rng(0).integers(0, 256, (4, *SHAPE), dtype=np.uint8)
    logits = np.asarray(network(images))
    assert logits.shape == (4, 3)
    assert logits.dtype == np.float32


def test_pixels_are_standardized_inside_the_network() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 5, 7, 3), dtype=np.uint8)
    statistics = PixelStatistics.of(images)
    assert statistics.mean == pytest.approx(images.mean() / 255)
    assert statistics.deviation == pytest.approx(images.std() / 255)

    network = build(NetworkName.LINEAR, shape=(5, 7, 3), logits=2, statistics=statistics)
    layer = network.get_layer(STANDARDIZED)
    standardized = np.asarray(keras.Model(network.input, layer.output)(images))
    assert standardized.mean() == pytest.approx(0, abs=1e-5)
    assert standardized.std() == pytest.approx(1, abs=1e-5)


def test_pictures_of_one_gray_do_not_divide_by_zero() -> None:
    statistics = PixelStatistics.of(np.full((3, 2, 2, 1), 9, dtype=np.uint8))
    assert statistics.deviation > 0


@pytest.mark.parametrize("shape", [(8, 8, 1), (75, 41, 3), (120, 160, 3)])
@pytest.mark.parametrize("name", [NetworkName.CNN, NetworkName.SCENE_CNN, NetworkName.PHOTO_CNN])
def test_pictures_may_be_of_any_size(name: NetworkName, shape: tuple[int, int, int]) -> None:
    network = build(name, shape=shape, logits=2, statistics=STATISTICS)
    assert np.asarray(network(np.zeros((1, *shape), np.uint8))).shape == (1, 2)
    assert network.count_params() < 500_000


def test_the_network_for_photographs_is_blind_to_light_and_contrast() -> None:
    generator = np.random.default_rng(0)
    page = 120 + 20 * generator.integers(0, 3, (1, 24, 32, 3))
    images = np.concatenate([page, page // 2, page + 80]).astype(np.uint8)
    network = build(NetworkName.PHOTO_CNN, shape=(24, 32, 3), logits=2, statistics=STATISTICS)
    logits = np.asarray(network(images))
    np.testing.assert_allclose(logits[1:], logits[[0, 0]], rtol=0.02, atol=0.02)


def test_a_class_of_its_own_leaves_the_logits_as_they_are() -> None:
    """With the same seed; its log-odds are one column more."""
    images = np.random.default_rng(0).integers(0, 256, (4, *SHAPE), dtype=np.uint8)
    answers = []
    for units in (0, 8):
        keras.utils.set_random_seed(1)
        network = build(
            NetworkName.MLP,
            shape=SHAPE,
            logits=3,
            statistics=STATISTICS,
            novelty_units=units,
        )
        answers.append(np.asarray(network(images)))
    assert answers[1].shape == (4, 4)
    np.testing.assert_array_equal(answers[0], answers[1][:, :3])
