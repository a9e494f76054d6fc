"""Labels from whatever keeps them."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from logitserve.adoption import labels
from logitserve.errors import AdoptionError
from tests.logitserve.adoption.graphs import UNIT, adopt, adopted, assert_refused, linear, save

BIRDS = ("red kite", "buzzard", "hobby")
NUMBERED = {str(index): bird for index, bird in enumerate(BIRDS)}


def written(folder: Path, name: str, content: str | bytes) -> labels.Labels:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return labels.given(str(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lines.txt", "red kite\nbuzzard\n\nhobby\n"),
        ("windows.txt", "red kite\r\nbuzzard\r\nhobby"),
        ("one-line.txt", "red kite, buzzard, hobby\n"),
        ("bom.txt", b"\xef\xbb\xbfred kite\nbuzzard\nhobby"),
        ("utf16.txt", "red kite\nbuzzard\nhobby".encode("utf-16")),
        ("list.json", json.dumps(BIRDS)),
        ("dict.json", json.dumps(NUMBERED)),
        ("unsorted.json", json.dumps(dict(reversed(NUMBERED.items())))),
        ("inverse.json", json.dumps({bird: index for index, bird in enumerate(BIRDS)})),
        ("from-one.json", json.dumps({str(i + 1): bird for i, bird in enumerate(BIRDS)})),
        ("class_index.json", json.dumps({k: [f"n0{k}", v] for k, v in NUMBERED.items()})),
        ("config.json", json.dumps({"id2label": NUMBERED, "model_type": "vit"})),
        ("names.json", json.dumps({"names": list(BIRDS), "nc": 3})),
        ("objects.json", json.dumps([{"id": i, "name": b} for i, b in enumerate(BIRDS)])),
        ("one-column.csv", "red kite\nbuzzard\nhobby\n"),
        ("header.csv", "label\nred kite\nbuzzard\nhobby\n"),
        ("numbered.csv", "1,buzzard\n0,red kite\n2,hobby\n"),
        ("both.csv", "id;name\n2;hobby\n0;red kite\n1;buzzard\n"),
        ("row.csv", "red kite,buzzard,hobby"),
    ],
)
def test_files(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert written(tmp_path, name, content) == BIRDS


def test_latin_1(tmp_path: Path) -> None:
    assert written(tmp_path, "l.txt", "Rötelfalke\nMäusebussard".encode("latin-1")) == (
        "Rötelfalke",
        "Mäusebussard",
    )


def test_a_thousand_names_inline() -> None:
    names = tuple(f"a rather long label, number {index}".replace(",", "") for index in range(1000))
    assert labels.given(",".join(names)) == names


@settings(deadline=None)
@given(
    st.lists(
        st.text(
            st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters=',"{}[]')
        ),
        min_size=2,
        unique=True,
    ).filter(all)
)
def test_json_and_lines_agree(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("labels")
    as_json = written(folder, "l.json", json.dumps(names))
    assert as_json == tuple(names)
    if not names[0].isdigit():  # what begins like a number may be JSON itself
        assert written(folder, "l.txt", "\n".join(names)) == as_json


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("twice.txt", "kite\nhobby\nkite\n", ["3 labels", "2 different", "'kite'", "2 times"]),
        ("empty.txt", "\n\n", ["no labels"]),
        ("gap.json", json.dumps({"0": "a", "2": "b"}), ["2 labels from 0 to 2", "0 to 1"]),
        ("deep.json", json.dumps({"a": {"b": 1}}), ["unknown form", "id2label"]),
        ("number.json", "7", ["unknown form"]),
    ],
)
def test_refusals(tmp_path: Path, name: str, content: str, words: list[str]) -> None:
    with pytest.raises(AdoptionError) as refused:
        written(tmp_path, name, content)
    assert all(word in str(refused.value) for word in words)


def test_neither_a_file_nor_a_list() -> None:
    with pytest.raises(AdoptionError, match="neither a file nor several labels"):
        labels.given("labels.txt")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("names", str(dict(enumerate(BIRDS)))),
        ("names", str(list(BIRDS))),
        ("classes", json.dumps(BIRDS)),
        ("id2label", json.dumps(NUMBERED)),
        ("labels", ",".join(BIRDS)),
    ],
)
def test_metadata_of_the_file(tmp_path: Path, key: str, value: str) -> None:
    model = linear()
    helper.set_model_props(model, {key: value, "author": "somebody"})
    assert adopted(save(model, tmp_path), tmp_path / "m", *UNIT).card.labels == BIRDS


def test_metadata_that_is_no_list_is_passed_over(tmp_path: Path) -> None:
    model = linear()
    helper.set_model_props(model, {"names": "[unclosed", "labels": "birds"})
    assert_refused(adopt(save(model, tmp_path), tmp_path / "m", *UNIT), "give --labels")
