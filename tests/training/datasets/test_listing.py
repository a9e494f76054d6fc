from pathlib import Path

import numpy as np
import pytest

from logitserve_training.datasets import listing
from logitserve_training.errors import DataFormatError, DataMissingError, OptionError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def write(folder: Path, text: str, encoding: str = "utf-8") -> None:
    (folder / "labels.csv").write_text(text, encoding=encoding)


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    touch(tmp_path, "dog/1.png", "cat/2.JPG", "cat/1.tif", "cat/.DS_Store", "notes.txt", ".x/a.png")
    found = listing.read(tmp_path, None)
    assert found.labels == ("cat", "dog")
    assert found.names == ("cat/1.tif", "cat/2.JPG", "dog/1.png")
    assert found.outcomes.tolist() == [[1, 0], [1, 0], [0, 1]]
    assert found.is_exclusive
    assert found.groups is None


def test_a_table_of_labels(tmp_path: Path) -> None:
    """As a spreadsheet writes it; pictures beside it, below it or in `images`."""
    touch(tmp_path, "a.png", "images/b.png", "deep/c.png")
    write(
        tmp_path, "filename,car,bus\r\na.png,1,0\r\nb.png, 1 ,1\r\ndeep/c.png,0,0\r\n", "utf-8-sig"
    )
    found = listing.read(tmp_path, None)
    assert (found.labels, found.is_exclusive) == (("car", "bus"), False)
    assert found.outcomes.tolist() == [[1, 0], [1, 1], [0, 0]]
    assert [path.relative_to(tmp_path).as_posix() for path in found.paths] == [
        "a.png", "images/b.png", "deep/c.png",
    ]  # fmt: skip
    assert found[np.array([2])].names == ("deep/c.png",)


def test_groups_by_a_column_or_by_the_names(tmp_path: Path) -> None:
    touch(tmp_path, "m1_a.png", "m1_b.png", "m2_a.png")
    write(tmp_path, "filename,drive,car\nm1_a.png,x,1\nm1_b.png,y,0\nm2_a.png,y,1\n")
    by_column = listing.read(tmp_path, "drive")
    assert (by_column.groups, by_column.labels) == (("x", "y", "y"), ("car",))
    write(tmp_path, "filename,car\nm1_a.png,1\nm1_b.png,0\nm2_a.png,1\n")
    assert listing.read(tmp_path, "[^_]+").groups == ("m1", "m1", "m2")
    assert listing.read(tmp_path, "m([0-9])").groups == ("1", "1", "2")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1: it must be 'filename,' and the labels"),
        ("name,car\na.png,1\n", "line 1: it must be 'filename,'"),
        ("filename\na.png\n", "line 1: after 'filename' there must be one column or more"),
        ("filename,car,car\na.png,1,1\n", "each with a label of its own"),
        ("filename,car\n", "has a first line and nothing below it"),
        ("filename,car\na.png,1,0\n", "line 2: 3 cells where the first line has 2"),
        ("filename,car\na.png,1\n\na.png,0\n", "line 4: 'a.png' stands in line 2 already"),
        ("filename,car\na.png,yes\n", "line 2: 'car' is 'yes', neither 0 nor 1"),
        ('filename,car\n"a.png,1\n', "cannot be read as CSV"),
    ],
)
def test_a_table_that_cannot_be_used(tmp_path: Path, text: str, reason: str) -> None:
    touch(tmp_path, "a.png")
    write(tmp_path, text)
    with pytest.raises(DataFormatError, match=r"labels\.csv") as caught:
        listing.read(tmp_path, None)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_in_another_encoding(tmp_path: Path) -> None:
    write(tmp_path, "filename,häuser\n", "latin-1")
    with pytest.raises(DataFormatError, match="cannot be read as CSV in UTF-8"):
        listing.read(tmp_path, None)


def test_files_that_are_not_there_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    write(tmp_path, "filename,car\n" + "".join(f"{index}.png,1\n" for index in range(7)))
    with pytest.raises(
        DataMissingError, match=r"names 7 files .*: 0.png, .*, 4.png and 2 more; .* images/"
    ):
        listing.read(tmp_path, None)


def test_folders_that_are_not_classes(tmp_path: Path) -> None:
    with pytest.raises(DataMissingError, match="is not a folder"):
        listing.read(tmp_path / "none", None)
    with pytest.raises(DataFormatError, match="it has no folder at all"):
        listing.read(tmp_path, None)
    touch(tmp_path, "cat/1.png")
    with pytest.raises(DataFormatError, match=r"two folders or more, .* it has cat"):
        listing.read(tmp_path, None)
    (tmp_path / "dog").mkdir()
    with pytest.raises(DataFormatError, match="no pictures in the class folders dog"):
        listing.read(tmp_path, None)


def test_a_grouping_that_does_not_fit(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a_1.png", "dog/2.png")
    with pytest.raises(OptionError, match=r"does not match the beginning of 1 file names: dog/2"):
        listing.read(tmp_path, "[a-z]_")
    with pytest.raises(OptionError, match=r"neither a column of labels\.csv nor a regular"):
        listing.read(tmp_path, "(")
