from pathlib import Path
from typing import Any

import numpy as np
import pytest

from logitserve.inference.card import Head
from logitserve_training.datasets import layouts
from logitserve_training.datasets.listing import Listing
from logitserve_training.errors import DataError, DataFormatError, DataMissingError, OptionError
from logitserve_training.recipes import FolderOptions


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def write(folder: Path, text: str, encoding: str = "utf-8") -> None:
    (folder / "labels.csv").write_text(text, encoding=encoding)


def read(folder: Path, group_by: str | None = None, **options: Any) -> Listing:
    return layouts.read(folder, FolderOptions(group_by=group_by, **options))


def shown(found: Listing) -> str:
    """What was read of each file, in the order of the names."""
    held = [
        "+".join(label for label, holds in zip(found.labels, row, strict=True) if holds) or "-"
        for row in found.outcomes
    ]
    rows = sorted(zip(found.names, held, strict=True))
    return f"{'one' if found.is_exclusive else 'any'} of {len(found.labels)}: " + " ".join(
        one for _, one in rows
    )


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    touch(tmp_path, "dog/1.png", "cat/2.JPG", "cat/1.tif", "cat/.DS_Store", "notes.txt", ".x/a.png")
    found = read(tmp_path)
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
    found = read(tmp_path)
    assert (found.labels, found.is_exclusive) == (("car", "bus"), False)
    assert found.outcomes.tolist() == [[1, 0], [1, 1], [0, 0]]
    assert [path.relative_to(tmp_path).as_posix() for path in found.paths] == [
        "a.png", "images/b.png", "deep/c.png",
    ]  # fmt: skip
    assert found[np.array([2])].names == ("deep/c.png",)


def test_groups_by_a_column_or_by_the_names(tmp_path: Path) -> None:
    touch(tmp_path, "m1_a.png", "m1_b.png", "m2_a.png")
    write(tmp_path, "filename,drive,car\nm1_a.png,x,1\nm1_b.png,y,0\nm2_a.png,y,1\n")
    by_column = read(tmp_path, "drive")
    assert (by_column.groups, by_column.labels) == (("x", "y", "y"), ("car",))
    write(tmp_path, "filename,car\nm1_a.png,1\nm1_b.png,0\nm2_a.png,1\n")
    assert read(tmp_path, "[^_]+").groups == ("m1", "m1", "m2")
    assert read(tmp_path, "m([0-9])").groups == ("1", "1", "2")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1: the header must have the columns 'filename,' and the labels"),
        ("thing,car\nz.png,1\n", "has no column of picture names"),
        ("filename\na.png\n", "line 1: after 'filename' there must be one or more columns"),
        ("filename,car,car\na.png,1,1\n", "one per label"),
        ("filename,car\n", "has a header and no rows"),
        ("filename,car\na.png,1,0\n", "line 2: 3 cells, but the header has 2"),
        ("filename,car\na.png,1\n\na.png,0\n", "line 4: 'a.png' is also in line 2"),
        ("filename,car\na.png,1\nb.png,maybe\nc.png,0", "line 3: 'car' is 'maybe', neither 0"),
        ('filename,car\n"a.png,1\n', "cannot be read as CSV, JSON or JSON Lines"),
    ],
)
def test_a_table_that_cannot_be_used(tmp_path: Path, text: str, reason: str) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png")
    write(tmp_path, text)
    with pytest.raises(DataFormatError, match=r"labels\.csv") as caught:
        read(tmp_path)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_in_another_encoding(tmp_path: Path) -> None:
    write(tmp_path, "filename,häuser\n", "latin-1")
    with pytest.raises(DataFormatError, match="cannot be read as CSV, JSON or JSON Lines in UTF-8"):
        read(tmp_path)


def test_files_that_are_not_there_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    write(tmp_path, "filename,car\n" + "".join(f"{index}.png,1\n" for index in range(7)))
    with pytest.raises(
        DataMissingError, match=r"names 7 missing files: 0.png, .*, 4.png and 2 more; .* images/"
    ):
        read(tmp_path)


def test_folders_that_are_not_classes(tmp_path: Path) -> None:
    with pytest.raises(DataMissingError, match="is not a folder"):
        read(tmp_path / "none")
    with pytest.raises(DataFormatError, match="it has no folder at all"):
        read(tmp_path)
    touch(tmp_path, "cat/1.png")
    with pytest.raises(DataFormatError, match=r"two or more folders, .* it has cat"):
        read(tmp_path)
    (tmp_path / "dog").mkdir()
    with pytest.raises(DataFormatError, match=r"two or more folders, .* it has cat, dog"):
        read(tmp_path)
    touch(tmp_path, "cow/1.png")
    assert "dog has no pictures and is left out" in read(tmp_path).layout


def test_a_grouping_that_does_not_fit(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a_1.png", "dog/2.png")
    with pytest.raises(OptionError, match=r"does not match the beginning of 1 file names: dog/2"):
        read(tmp_path, "[a-z]_")
    with pytest.raises(OptionError, match=r"neither a column of the table nor a regular"):
        read(tmp_path, "(")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ("a/1.png a/2.png b/3.png", "one of 2: a a b"),
        ("10/1.png 9/2.png 10/3.png", "one of 2: 10 10 9"),
        ("set/x/a/1.png set/x/b/2.png", "one of 2: a b"),
        ("a/1.png a/deep/2.png b/3.png", "one of 2: a a b"),
        ("a/img/1.png b/img/2.png", "one of 2: a b"),
        ("a/2024/1.png a/2025/2.png b/2024/3.png", "one of 2: a a b"),
        ("2024/a/1.png 2024/b/2.png 2025/a/3.png", "one of 2: a b a"),
        ("train/a/1.png train/b/2.png val/a/3.png test/b/4.png", "one of 2: b a b a"),
        ("Training/a/1.png Training/b/2.png Testing/a/3.png", "one of 2: a a b"),
        ("d/train/a/1.png d/train/b/2.png d/valid/b/3.png d/test/4.png", "one of 2: a b b"),
        (
            "train/cat.1.png train/cat.2.png train/dog.1.png train/dog.2.png test1/1.png",
            "one of 2: cat cat dog dog",
        ),
        ("cat.0.png cat.1.png dog.0.jpg dog.1.jpg", "one of 2: cat cat dog dog"),
        ("cat_1.png cat_2.png Great_Dane_1.png Great_Dane_2.png", "one of 2: G G cat cat"),
        ("cat1.png cat2.png dog1.png dog2.png", "one of 2: cat cat dog dog"),
        ("cat (1).png cat (2).png dog (1).png dog (2).png", "one of 2: cat cat dog dog"),
        ("001_cat.png 002_cat.png 003-dog.png 004-dog.png", "one of 2: cat cat dog dog"),
        ("a/1.png b/2.png README.md", "one of 2: a b"),
        ("a/1.png b/2.png empty/", "one of 2: a b"),
        ("images/a/1.png images/b/2.png annotations/1.xml", "one of 2: a b"),
        ("animals/cat/1.png animals/dog/2.png cars/vw/3.png", "two ways: 2 .*or 3 .*--class-by"),
        ("a/x/1.png a/y/2.png b/x/3.png b/y/4.png", "two ways: 2 classes .*--class-by last"),
        (
            "cat_in_1.png cat_out_2.png cat_in_3.png dog_in_4.png dog_in_5.png dog_in_6.png",
            "two ways: 3 classes .*or 2 by the first word .*--class-by",
        ),
        (
            "IMG_1.png IMG_2.png DSC_1.png DSC_2.png",
            "has neither labels.csv nor two or more folders",
        ),
        ("1.png 2.png 3.png", "it has no folder at all and 3 .png"),
        ("cat/1.png", "has neither .* it has cat"),
        ("cat_1.png cat_2.png", "has neither"),
        ("train/a/1.png train/b/2.png val/c/3.png", "training part of .* has no picture of c"),
    ],
)
def test_layouts_of_folders(tmp_path: Path, files: str, expected: str) -> None:
    for name in files.replace(" (", "\0(").split():
        path = tmp_path / name.replace("\0", " ")
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(b"x")
    if expected.startswith("one of"):
        assert shown(read(tmp_path)).replace("Great_Dane", "G") == expected
        return
    with pytest.raises(DataFormatError, match=expected):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "table", "expected"),
    [
        ("labels.csv", "image,class\n1.png,cat\n2.png,dog\n3.png,cat", "one of 2: cat dog cat"),
        ("train.csv", "file,label\n1.png,0\n2.png,1\n3.png,1", "one of 2: 0 1 1"),
        ("x.csv", "path,y\nimages/1.png,2.0\nimages/2.png,10.0\n", "one of 2: 2 10"),
        ("x.csv", "id,breed\n1,cat\n2,dog\n3,cat", "one of 2: cat dog cat"),
        ("x.csv", "image_id;species\n1;cat\n2;dog\n3;cat", "one of 2: cat dog cat"),
        ("x.tsv", "id\tbreed\n1\tcat\n2\tGreat Dane\n3\tcat", "one of 2: cat Great Dane cat"),
        ("x.csv", "label,image\ncat,/kaggle/in/1.png\ndog,.\\2.png", "one of 2: cat dog"),
        ("x.csv", "1.png,cat\n2.png,dog\n3.png,cat", "one of 2: cat dog cat"),
        ("x.csv", "id,width,label_id,label_name\n1,9,0,cat\n2,8,1,dog", "one of 2: cat dog"),
        ("x.csv", "file,tags\n1.png,car|bus\n2.png,\n3.png,bus", "any of 2: bus+car - bus"),
        ("x.csv", "file,tags\n1.png,car;bus\n2.png,car\n3.png,bus", "any of 2: bus+car car bus"),
        ("x.csv", "file;tags\n1.png;car,bus\n2.png;car\n", "any of 2: bus+car car"),
        ("x.csv", 'file,tags\n1.png,"car, bus"\n2.png,car\n', "any of 2: bus+car car"),
        ("x.csv", "file,tags\n1.png,car bus\n2.png,car\n3.png,bus", "any of 2: bus+car car bus"),
        ("x.csv", "file,car,bus\n1.png,True,False\n2.png,true,TRUE", "any of 2: car car+bus"),
        (
            "x.csv",
            "file,car,bus\n1.png,1.0,0.0\n2.png,0.0,1.0\n3.png,1,1",
            "any of 2: car bus car+bus",
        ),
        ("x.csv", "file,car,bus\n1.png,yes,no\n2.png,Yes,yes", "any of 2: car car+bus"),
        ("labels.csv", "filename,car\n1.png,yes\n2.png,no", "any of 1: car -"),
        ("x.csv", "file,split,label\n1.png,train,a\n2.png,val,b\n3.png,train,b", "one of 2: a b b"),
        (
            "metadata.jsonl",
            '{"file_name": "1.png", "label": "cat"}\n{"file_name": "2.png", "label": "dog"}\n',
            "one of 2: cat dog",
        ),
        (
            "x.jsonl",
            '{"image": "1.png", "labels": ["car", "bus"]}\n{"image": "2.png", "labels": []}\n',
            "any of 2: bus+car -",
        ),
        ("x.jsonl", '{"image": "1", "car": true, "bus": false}\n', "any of 2: car"),
        (
            "x.csv",
            "file,breed\n1.png,golden retriever\n2.png,labrador retriever\n3.png,poodle",
            "two ways: 'breed' has 3 classes .*or 4 labels .*--head softmax or --head sigmoid",
        ),
        (
            "x.csv",
            "file,where,what\n1.png,in,a\n2.png,out,b",
            "'where' or 'what'; choose one with --class-by",
        ),
        ("x.csv", "file,label\n1.png,\n2.png,a", "line 2: 'label' is empty"),
        ("x.csv", "file,label\n1.png,0.31\n2.png,0.5", "numbers such as 0.31"),
        ("labels.csv", "file,drive,car,bus\n1.png,x,1,0\n2.png,x,1,0", "--group-by"),
        ("x.jsonl", "[1]\n", "each row must be an object"),
        (
            "project-1.csv",
            "annotation_id,annotator,choice,created,id,image\n"  # noqa: ISC004 - a row a line
            "8,1,cat,2024-01-01T00:00:01Z,1,/data/upload/1/1.png\n"
            "9,1,dog,2024-01-01T00:00:02Z,2,/data/upload/1/2.png\n",
            "one of 2: cat dog",
        ),
        (
            "project-1.json",
            '[{"image": "/up/1.png", "choice": "cat"}, {"image": "/up/2.png", "choice": "dog"}]',
            "one of 2: cat dog",
        ),
        ("x.csv", "ImagePath,Label\nC:\\me\\1.PNG,cat\nC:\\me\\2.PNG,dog", "one of 2: cat dog"),
        (
            "x.csv",
            'file,label\n1.png,"Paris, Texas"\n2.png,"Rome, Georgia"\n3.png,"Rome, Georgia"',
            "two ways: 'label' has 2 classes .*or 4 labels .*--head softmax or --head sigmoid",
        ),
    ],
)
def test_layouts_of_tables(tmp_path: Path, name: str, table: str, expected: str) -> None:
    touch(tmp_path, "images/1.png", "images/2.png", "images/3.png")
    (tmp_path / name).write_text(table)
    if expected.startswith(("one", "any")):
        assert shown(read(tmp_path)) == expected
        assert shown(read(tmp_path / name)) == expected
        return
    with pytest.raises(DataError, match=expected):
        read(tmp_path)


def test_an_option_decides_between_two_readings(tmp_path: Path) -> None:
    nested = tmp_path / "nested"
    touch(nested, "animals/cat/1.png", "animals/dog/2.png", "cars/vw/3.png")
    assert shown(read(nested, class_by="first")) == "one of 2: animals animals cars"
    assert shown(read(nested, class_by="last")) == "one of 3: cat dog vw"
    flat = tmp_path / "flat"
    touch(flat, "x-cat-1.png", "y-dog-2.png")
    assert shown(read(flat, class_by="[xy]-([a-z]+)")) == "one of 2: cat dog"
    table = tmp_path / "table"
    touch(table, "1.png", "2.png")
    (table / "x.csv").write_text("file,where,what\n1.png,in,a b\n2.png,out,b c\n")
    assert shown(read(table, class_by="where")) == "one of 2: in out"
    assert shown(read(table, class_by="what", head=Head.SIGMOID)) == "any of 3: a+b b+c"
    (table / "x.csv").write_text("file,car,bus\n1.png,1,0\n2.png,0,1\n")
    assert shown(read(table, head=Head.SOFTMAX)) == "one of 2: car bus"
    assert shown(read(table)) == "any of 2: car bus"


def test_a_table_beside_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.png", "train/b/2.png", "test/b/3.png")
    table = "path,label\ntrain/a/1.png,a\ntrain/b/2.png,b\ntest/b/3.png,{}\n"
    (tmp_path / "sports.csv").write_text(table.format("b"))
    assert shown(read(tmp_path)) == "one of 2: b a b"
    (tmp_path / "sports.csv").write_text(table.format("a"))
    with pytest.raises(
        DataFormatError, match=r"two ways: as the table sports.csv.*--class-by first"
    ):
        read(tmp_path)
    assert shown(read(tmp_path, class_by="first")) == "one of 2: b a b"
    assert shown(read(tmp_path / "sports.csv")) == "one of 2: a a b"


def test_tables_of_a_competition_and_of_parts(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.jpg", "train/2.jpg", "test/3.jpg")
    (tmp_path / "train.csv").write_text(",Id,Label\n0,1,cat\n1,2,dog\n")
    (tmp_path / "test.csv").write_text("Id\n3\n")
    (tmp_path / "sample_submission.csv").write_text("Id,Label\n3,cat\n")
    assert shown(read(tmp_path)) == "one of 2: cat dog"
    (tmp_path / "test.csv").write_text("Id,Label\n3,dog\n")
    found = read(tmp_path)
    assert (shown(found), found.parts) == ("one of 2: dog cat dog", ("test", "train", "train"))
    assert "left out" not in found.layout
    (tmp_path / "train.csv").unlink()
    with pytest.raises(DataFormatError, match="several tables that name its pictures"):
        read(tmp_path)


def test_a_table_of_pictures_in_another_folder(tmp_path: Path) -> None:
    touch(tmp_path, "there/1.png", "there/2.png")
    (tmp_path / "here").mkdir()
    rows = "".join(f"{tmp_path}/there/{n}.png,{label}\n" for n, label in ((1, "a"), (2, "b")))
    (tmp_path / "here" / "labels.csv").write_text(f"path,label\n{rows}")
    found = read(tmp_path / "here")
    assert shown(found) == "one of 2: a b"
    assert found.names == tuple(f"{tmp_path.as_posix()}/there/{n}.png" for n in (1, 2))


def test_pictures_that_a_table_leaves_out_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "3.png", "4.png")
    write(tmp_path, "filename,label\n1.png,a\n2.png,b\n")
    assert read(tmp_path).layout.endswith("; 2 pictures that are not in it are left out")


def test_what_is_no_folder_and_no_table(tmp_path: Path) -> None:
    touch(tmp_path, "pictures.zip", "a/1.png", "a/desktop.ini", "b/2.png", "class_names.json")
    with pytest.raises(DataFormatError, match=r"zip is neither a folder nor a table.*extract"):
        read(tmp_path / "pictures.zip")
    (tmp_path / "class_names.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(DataFormatError, match=r"class_names.json is neither .*list of objects"):
        read(tmp_path / "class_names.json")
    assert shown(read(tmp_path)) == "one of 2: a b"
    (tmp_path / "class_names.json").write_text('["a", "b"]')
    assert shown(read(tmp_path)) == "one of 2: a b"


def test_the_parts_that_a_folder_gives_are_said_and_kept(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.png", "train/b/2.png", "valid/a/3.png", "test/9.png")
    found = read(tmp_path)
    assert found.parts == ("train", "train", "validation")
    assert "split given by folders train/ and valid/; test/ has no classes" in found.layout
