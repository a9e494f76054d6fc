import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from logitserve_training.datasets import mnist
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.errors import DataFormatError, DataMissingError
from logitserve_training.progress import Reporter
from tests.training.idx_files import write_idx

NAMES = [file.name for file in mnist.FILES]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of the right form: 120 pictures to train on and 30 to test on."""
    generator = np.random.default_rng(0)
    for count, (images, labels) in ((120, NAMES[:2]), (30, NAMES[2:])):
        write_idx(tmp_path / images, generator.integers(0, 256, (count, 28, 28)).astype(np.uint8))
        write_idx(tmp_path / labels, np.arange(count, dtype=np.uint8) % 10)
    return tmp_path


def load(folder: Path) -> Dataset:
    return mnist.load(folder, Reporter())


def test_a_local_copy_is_read_in_three_parts(folder: Path) -> None:
    dataset = load(folder)
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [
        110,
        10,
        30,
    ]
    assert dataset.train.images.shape == (110, 28, 28, 1)
    assert dataset.train.images.dtype == np.uint8
    assert sorted(dataset.validation.classes) == list(range(10))
    assert dataset.test.classes.tolist() == [*range(10)] * 3


def test_unpacked_files_are_the_same_data_set(folder: Path) -> None:
    packed = load(folder)
    for name in NAMES:
        content = gzip.decompress((folder / name).read_bytes())
        (folder / name).unlink()
        (folder / name.removesuffix(".gz")).write_bytes(content)
    unpacked = load(folder)
    assert unpacked.sha256 == packed.sha256
    np.testing.assert_array_equal(unpacked.train.images, packed.train.images)


def test_other_pictures_have_another_digest(folder: Path) -> None:
    before = load(folder).sha256
    write_idx(folder / NAMES[3], np.zeros(30, dtype=np.uint8))
    assert load(folder).sha256 != before


def test_a_missing_file_is_named_with_all_that_are_needed(folder: Path) -> None:
    (folder / NAMES[2]).unlink()
    with pytest.raises(DataMissingError) as caught:
        load(folder)
    message = str(caught.value)
    assert f"{folder} has no {NAMES[2]}" in message
    assert all(name in message for name in NAMES)


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        (NAMES[0], np.zeros((120, 32, 32), np.uint8), r"not \[pictures, 28, 28\]"),
        (NAMES[0], np.zeros((0, 28, 28), np.uint8), r"not \[pictures, 28, 28\]"),
        (NAMES[1], np.zeros(119, np.uint8), "one digit from 0 to 9 for each of the 120"),
        (NAMES[3], np.full(30, 10, np.uint8), "one digit from 0 to 9 for each of the 30"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    folder: Path, name: str, array: npt.NDArray[np.uint8], reason: str
) -> None:
    write_idx(folder / name, array)
    with pytest.raises(DataFormatError, match=reason):
        load(folder)


@pytest.mark.parametrize(
    ("variable", "expected"),
    [("/there", "/there/logitserve/mnist"), ("", ".cache/logitserve/mnist")],
)
def test_the_cache_follows_the_xdg_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, expected: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", variable)
    assert str(mnist.cache_folder()).endswith(expected)


def test_downloaded_files_are_read_from_the_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all four files in the cache nothing is fetched."""
    cache = tmp_path / "logitserve" / "mnist"
    cache.mkdir(parents=True)
    for name in NAMES:
        (folder / name).rename(cache / name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(mnist, "MIRRORS", ())
    assert len(mnist.load(None, Reporter()).test) == 30
