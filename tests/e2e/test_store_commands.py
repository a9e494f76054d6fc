"""Commands and clients for labels, quality, the store and export, against a real server."""

import asyncio
import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from logitserve.cli.main import main
from logitserve.client import AsyncClient, Client
from logitserve.inference.card import Head
from tests import tiny_models
from tests.e2e.metrics import wait_until
from tests.e2e.process import Server
from tests.e2e.test_receipts import keeping, kept
from tests.tiny_models import linear_logits, random_picture

COUNT = 150


class Kept(NamedTuple):
    server: Server
    store: Path
    ids: list[str]
    answers: list[str]
    scene: str


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """Answers of two models with their pictures; digits says 0.99 and is right in a half."""
    folder = tmp_path_factory.mktemp("models")
    matrix = tiny_models.publish(folder, name="digits", seed=1, metrics={"accuracy": 0.99})
    scenes: dict[str, Any] = {"labels": ("car", "bus"), "thresholds": (0.5, 0.5)}
    tiny_models.publish(folder, name="scenes", head=Head.SIGMOID, seed=3, **scenes)
    store = tmp_path_factory.mktemp("store") / "store.db"
    pictures = [random_picture(seed) for seed in range(COUNT - 2)]
    # Two more that look like the first.
    pictures += [np.minimum(pictures[0], np.uint8(255 - n)) for n in (1, 2)]
    answers = linear_logits(np.stack(pictures), matrix).argmax(axis=1).astype(str).tolist()
    with keeping(folder, store, "--keep-pictures", "all") as server:
        with Client(server.url) as client:
            found = [row.id or "" for row in client.predict(pictures, model="digits")]
            scene = client.predict(pictures[0], model="scenes").id or ""
        wait_until(lambda: len(kept(store)) == COUNT + 1)
        yield Kept(server, store, found, answers, scene)


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def table(path: Path, rows: list[dict[str, str]]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def other_than(label: str, number: int) -> str:
    """Each of the ten often enough to be trained on."""
    return str(next(d for d in (number // 2 % 10, (number // 2 + 1) % 10) if str(d) != label))


@pytest.fixture(scope="module")
def labeled(full: Kept, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """Of every second picture the answer is said to be wrong; the command sends that."""
    rows = [
        {"id": of, "label": other_than(said, number) if number % 2 else said}
        for number, (of, said) in enumerate(zip(full.ids, full.answers, strict=True))
    ]
    file = table(tmp_path_factory.mktemp("labels") / "labels.csv", rows)
    done = ran("feedback", file, "--url", full.server.url, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["accepted"] == COUNT
    scenes = table(Path(file).with_name("scenes.csv"), [{"id": full.scene, "labels": "car;bus"}])
    assert ran("feedback", scenes, "--url", full.server.url).exit_code == 0
    return full


def test_invalid_labels_are_told_by_their_row(full: Kept, tmp_path: Path) -> None:
    rows = [{"id": full.ids[0], "labels": "1;2"}, {"id": "x", "labels": "1"}]
    done = ran("feedback", table(tmp_path / "a.csv", rows), "--url", full.server.url)
    assert done.exit_code == 1
    assert "invalid 2" in done.output
    assert "row 2: not a prediction id" in done.output
    done = ran("feedback", table(tmp_path / "b.csv", [{"id": "x", "lable": "7"}]))
    assert done.exit_code == 1
    assert "has the columns id, lable; known: id, label, labels, source, at" in done.output


def test_quality_ends_with_1_where_the_alarm_is_on(labeled: Kept) -> None:
    url = ("--url", labeled.server.url)
    done = ran("quality", "digits", *url, "--json")
    assert done.exit_code == 1
    found = json.loads(done.output)
    assert found["measures"]["accuracy"]["naive"]["value"] == 0.5
    done = ran("quality", *url)
    assert done.exit_code == 1
    assert "digits version 1: 150 answers, 150 with a label; the card states accuracy 0.9900" in (
        done.output
    )
    assert "ALARM" in done.output
    assert "scenes version 1: 1 answers, 1 with a label" in done.output
    assert "no estimate without labels: an image can have several labels" in done.output
    assert ran("quality", "scenes", *url).exit_code == 0
    done = ran("quality", "digit", *url)
    assert "did you mean 'digits'?" in done.output


def test_both_clients_send_labels_and_ask_for_quality(labeled: Kept) -> None:
    given = [{"id": labeled.ids[0], "label": labeled.answers[0], "source": "Ada"}]

    async def asynchronously() -> tuple[dict[str, Any], dict[str, Any]]:
        async with AsyncClient(labeled.server.url) as client:
            return await client.feedback(given), await client.quality("digits", window="1h")

    with Client(labeled.server.url) as client:
        assert client.feedback(given)["accepted"] == 1
        expected = client.quality("digits", window="1h")
    told, found = asyncio.run(asynchronously())
    assert told["same"] == 1
    assert found == expected


@pytest.mark.parametrize(
    ("only", "expected"), [("labeled", COUNT), ("disagree", COUNT // 2), ("hard", None)]
)
def test_what_is_exported_is_read_by_training(
    labeled: Kept, tmp_path: Path, only: str, expected: int | None
) -> None:
    out = tmp_path / "pictures"
    store = ("--store", str(labeled.store))
    done = ran("export", "digits", str(out), *store, "--only", only, "--json")
    assert done.exit_code == 0, done.output
    count = json.loads(done.output)["pictures"]
    assert COUNT // 2 <= count <= COUNT
    assert expected in {count, None}
    rows = list(csv.DictReader((out / "labels.csv").read_text().splitlines()))
    assert len(rows) == count
    by_id = dict(zip(labeled.ids, enumerate(labeled.answers), strict=True))
    for row in rows:
        number, said = by_id[row["filename"].removesuffix(".png")]
        assert row["label"] == (other_than(said, number) if number % 2 else said)
        if number < COUNT - 2:
            pixels = np.asarray(Image.open(out / row["filename"]))
            np.testing.assert_array_equal(pixels, random_picture(number)[:, :, 0])
    if only == "labeled":
        groups = {by_id[row["filename"][:-4]][0]: row["group"] for row in rows}
        assert groups[0] == groups[COUNT - 2] == groups[COUNT - 1]
        assert len(set(groups.values())) == COUNT - 2
    read = ran("train", "folder", "--data", str(out), "--group-by", "group", "--dry-run")
    assert read.exit_code == 0, read.output
    assert "nothing trained" in read.output
    again = ran("export", "digits", str(out), *store)
    assert "is not empty" in again.output


def test_several_labels_are_exported_as_columns(labeled: Kept, tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    assert ran("export", "scenes", str(out), "--store", str(labeled.store)).exit_code == 0
    (row,) = csv.DictReader((out / "labels.csv").read_text().splitlines())
    assert (row["car"], row["bus"]) == ("1", "1")


def test_nothing_to_export_says_what_to_do(full: Kept, tmp_path: Path) -> None:
    done = ran("export", "digit", str(tmp_path / "o"), "--store", str(full.store))
    assert "did you mean 'digits'?" in done.output
    done = ran("export", "digits", str(tmp_path / "o"), "--store", str(tmp_path / "none.db"))
    assert "does not exist" in done.output


@contextmanager
def copied(full: Kept, folder: Path) -> Iterator[Path]:
    copy = folder / "copy.db"
    done = ran("store", "backup", str(copy), "--store", str(full.store))
    assert done.exit_code == 0, done.output
    yield copy


def test_backup_info_erase_and_merge(labeled: Kept, tmp_path: Path) -> None:
    with copied(labeled, tmp_path) as copy:
        store = ("--store", str(copy))
        assert "exists" in ran("store", "backup", str(copy), *store).output
        info = json.loads(ran("store", "info", *store, "--json").output)
        assert info["rows"]["answer"] == COUNT + 1
        assert f"answer    {COUNT + 1}" in ran("store", "info", *store).output
        erased = json.loads(ran("store", "erase", labeled.ids[3], *store, "--json").output)
        assert erased == {"rows": 3}
        assert "is not the id" in ran("store", "erase", "x", *store).output
        merged = ran("store", "merge", str(labeled.store), *store, "--json")
        assert json.loads(merged.output)["answer"] == COUNT + 1
