"""A small data set of real handwriting, and a model trained on it once for all tests.

scikit-learn's bundled digits (Alpaydin and Kaynak 1998, CC BY 4.0) come as 8×8 pictures; the
project's own preprocessing makes them look like MNIST.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sklearn.datasets import load_digits

from logitserve.inference import preprocessing
from logitserve_training import latency, out_of_distribution, recipes
from logitserve_training.datasets import mnist
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.pipeline import Published, train
from logitserve_training.progress import Reporter
from logitserve_training.recipes import Options
from tests.training.idx_files import write_idx

TRAIN_SIZE = 1_440
QUICK = Options(epochs=6, batch_size=64, learning_rate=5e-3, seed=3)


@pytest.fixture(scope="session", autouse=True)
def _quick_measurements() -> Iterator[None]:
    """A few negatives and runs are enough to see that they are measured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(out_of_distribution, "COUNT", 6)
        patch.setattr(latency, "_SECONDS", 0.0)
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four idx files: 1,440 pictures to train on, 357 to test on."""
    folder = tmp_path_factory.mktemp("data")
    digits = load_digits()
    enlarged = np.kron(np.rint(digits.images * 255 / 16).astype(np.uint8), np.ones((1, 6, 6)))
    images = np.stack(
        [
            preprocessing.from_array(image.astype(np.uint8), recipes.DIGIT_INPUT)
            for image in enlarged
        ]
    )[..., 0]
    classes = digits.target.astype(np.uint8)
    names = [file.name for file in mnist.FILES]
    for part, (images_name, labels_name) in (
        (slice(TRAIN_SIZE), names[:2]),
        (slice(TRAIN_SIZE, None), names[2:]),
    ):
        write_idx(folder / images_name, images[part])
        write_idx(folder / labels_name, classes[part])
    return folder


@pytest.fixture(scope="session")
def dataset(data: Path) -> Dataset:
    return mnist.load(data, Reporter())


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def published(data: Path, models: Path) -> Published:
    """The lecture's network, trained for a second."""
    return train(
        recipes.find("digits-mlp"), QUICK, data=data, models=models, console=Console(quiet=True)
    )


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Ctrl-C raises, also in what a shell has started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
