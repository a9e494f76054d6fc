"""MNIST: 70,000 handwritten digits of 28×28 pixels (LeCun, Cortes, Burges; CC BY-SA 3.0).

Read from a local copy, or downloaded once from public mirrors into the user's cache.
"""

import hashlib
import os
from pathlib import Path
from typing import Final

from logitserve_training.datasets import idx
from logitserve_training.datasets.dataset import Dataset, LabeledImages, stratified_split
from logitserve_training.datasets.download import RemoteFile, download
from logitserve_training.errors import DataFormatError, DataMissingError
from logitserve_training.progress import Reporter

LABELS: Final = tuple("0123456789")
VALIDATION_SIZE: Final = 5_000
SPLIT_SEED: Final = 20_240_601
"""Fixed, independent of the training seed: all runs have the same held-out pictures."""

MIRRORS: Final = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
FILES: Final = (  # training images and labels, test images and labels
    RemoteFile(
        "train-images-idx3-ubyte.gz",
        9_912_422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    RemoteFile(
        "train-labels-idx1-ubyte.gz",
        28_881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    RemoteFile(
        "t10k-images-idx3-ubyte.gz",
        1_648_877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    RemoteFile(
        "t10k-labels-idx1-ubyte.gz",
        4_542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)


def cache_folder() -> Path:
    """Return the download folder: `$XDG_CACHE_HOME/logitserve/mnist`, else below `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "logitserve" / "mnist"


def load(data: Path | None, reporter: Reporter) -> Dataset:
    """Return the training part less 5,000 for validation (stratified), and the test part.

    The folder has the four idx files, gzipped or not; None downloads them.

    Raises:
        DataMissingError: a file is missing, or cannot be downloaded.
        DataFormatError: a file is damaged or is not an idx file of the right shape.
    """
    folder = cache_folder() if data is None else data
    if data is None:
        download(FILES, MIRRORS, folder, reporter)
    paths = [_local_file(folder, file.name) for file in FILES]
    contents = [idx.read_bytes(path) for path in paths]
    digest = hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents))
    train = _labeled(contents[:2], paths[:2])
    fit_part, validation = stratified_split(
        train, held_out=min(VALIDATION_SIZE, len(train) // 12), seed=SPLIT_SEED
    )
    return Dataset(
        name="MNIST",
        sha256=digest.hexdigest(),
        train=fit_part,
        validation=validation,
        test=_labeled(contents[2:], paths[2:]),
    )


def _local_file(folder: Path, name: str) -> Path:
    """Return the path of the gzipped file, or of the decompressed one."""
    for candidate in (folder / name, folder / name.removesuffix(".gz")):
        if candidate.is_file():
            return candidate
    raise DataMissingError(
        f"{folder} has no {name}, gzipped or not; put the four MNIST files there "
        f"({', '.join(file.name for file in FILES)}), or omit --data to download them"
    )


def _labeled(contents: list[bytes], paths: list[Path]) -> LabeledImages:
    images, classes = map(idx.parse, contents, paths)
    if images.shape[1:] != (28, 28) or len(images) == 0:
        raise DataFormatError(f"{paths[0]} has shape {images.shape}, not [pictures, 28, 28]")
    if classes.shape != images.shape[:1] or classes.max() >= len(LABELS):
        raise DataFormatError(
            f"{paths[1]} does not have one digit from 0 to 9 for each of the {len(images)} "
            f"pictures in {paths[0].name}"
        )
    return LabeledImages(images[..., None], classes.astype("int64"))
