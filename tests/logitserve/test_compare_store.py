"""`logitserve models compare --store`: two versions on pictures that were kept."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from logitserve.cli.main import main
from logitserve.inference.card import Head
from logitserve.inference.predictor import Predictor
from logitserve_service.monitoring.feedback import TrueLabel, take
from logitserve_service.monitoring.receipts import Receipts
from logitserve_service.monitoring.store import Store
from logitserve_service.monitoring.store_writer import StoreWriter
from tests import tiny_models
from tests.tiny_models import random_picture

COUNT = 300


class Kept:
    """A store with the pictures that version 1 has answered."""

    def __init__(self, folder: Path, **fields: Any) -> None:
        self.models, self.path = folder / "models", folder / "store.db"
        for version in ("1", "2"):
            seed = int(version)
            tiny_models.publish(self.models, version=version, seed=seed, **fields)
        files = [self.models / f"tiny/{version}/model.onnx" for version in (1, 2)]
        self.images = np.stack([random_picture(seed) for seed in range(COUNT)])
        first, second = map(Predictor.load, files)
        self.first, self.second = first.predict(self.images), second.predict(self.images)
        self.store = Store(self.path)
        store_writer = StoreWriter(self.store, lambda *_: None, pictures="all")
        self.receipts = Receipts([b"k" * 32], store_writer)
        self.ids = self.receipts.of(first.card)(self.first, self.images, ())
        store_writer.write()

    def label(self, labels: list[TrueLabel]) -> None:
        outcome, _ = take(labels, self.store, self.receipts, 30)
        assert outcome.accepted == len(labels)

    def compare(self, *options: str) -> Result:
        common = ("--store", str(self.path), "--models", str(self.models), *options)
        return CliRunner().invoke(main, ["models", "compare", "tiny/1", "tiny/2", *common])


def test_only_pictures_on_which_they_differ_need_a_label(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    differ = kept.first.argmax != kept.second.argmax
    told = kept.compare("--json", "--ask", str(tmp_path / "asked"))
    assert told.exit_code == 1
    found = json.loads(told.stdout)
    assert (found["pictures"], found["differ"], found["labeled"]) == (COUNT, differ.sum(), 0)
    assert (found["second_is"], found["labels_needed"]) == ("cannot tell", None)

    with (tmp_path / "asked/labels.csv").open() as file:
        asked = [row["id"] for row in csv.DictReader(file)]
    assert len(set(asked)) == 30
    rows = [kept.ids.index(of) for of in asked]
    assert differ[rows].all()
    assert {file.stem for file in (tmp_path / "asked").glob("*.png")} == set(asked)
    again = kept.compare("--ask", str(tmp_path / "asked"))
    assert "is not empty" in again.output

    # The second is right of 15 of these, the first of one, neither of 4.
    truth = [*kept.second.argmax[rows[:15]], *kept.first.argmax[rows[15:16]], *[10] * 4]
    labels = [TrueLabel(id=of, label=str(digit)) for of, digit in zip(asked, truth, strict=False)]
    kept.label(labels[:5])
    told = kept.compare()
    assert (told.exit_code, "undecided; about 4 more labels would" in told.output) == (
        1,
        True,
    )
    kept.label(labels[5:])
    told = kept.compare()
    assert told.exit_code == 0, told.output
    assert "only tiny/2 has 15 right, only tiny/1 1" in told.output
    assert told.output.endswith("tiny/2 is better\n")
    agreed = int(np.flatnonzero(~differ)[0])
    kept.label([TrueLabel(id=kept.ids[agreed], label="7")])
    assert (
        kept.compare("--json").stdout
        == json.dumps(json.loads(kept.compare("--json").stdout) | {"labeled": 20}) + "\n"
    ), "what both say the same tells nothing"


def test_of_several_labels_all_must_be_right(tmp_path: Path) -> None:
    labels, thresholds = ("car", "bus", "tram"), (0.3, 0.3, 0.3)
    kept = Kept(tmp_path, head=Head.SIGMOID, labels=labels, thresholds=thresholds)
    first, second = (each.probabilities >= 0.3 for each in (kept.first, kept.second))
    rows = np.flatnonzero((first != second).any(axis=1)).tolist()
    assert len(rows) > 12
    said = [[name for name, holds in zip(labels, of, strict=True) if holds] for of in first]
    kept.label([TrueLabel(id=kept.ids[row], labels=said[row]) for row in rows[:12]])
    found = json.loads(kept.compare("--json").stdout)
    assert (found["only_first_right"], found["only_second_right"]) == (12, 0)
    assert found["second_is"] == "worse"


def test_pictures_are_asked_for_only_of_a_store() -> None:
    asked = ["models", "compare", "tiny/1", "tiny/2", "--ask", "folder"]
    told = CliRunner().invoke(main, asked)
    assert (told.exit_code, "--ask needs --store" in told.output) == (2, True)


def test_versions_that_take_other_pictures(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    spec = tiny_models.SPEC.model_copy(update={"height": 14})
    tiny_models.publish(kept.models, version="3", spec=spec)
    arguments = ["tiny/1", "tiny/3", "--store", str(kept.path), "--models", str(kept.models)]
    told = CliRunner().invoke(main, ["models", "compare", *arguments])
    assert (told.exit_code, "differ in their input shape" in told.output) == (1, True)


@pytest.mark.parametrize("name", ["tiny", "other"])
def test_without_a_picture_nothing_is_told(tmp_path: Path, name: str) -> None:
    kept = Kept(tmp_path)
    tiny_models.publish(kept.models, name=name, version="9", seed=3)
    empty = tmp_path / "empty.db"
    Store(empty)
    arguments = [f"{name}/9", "tiny/1", "--store", str(empty), "--models", str(kept.models)]
    told = CliRunner().invoke(main, ["models", "compare", *arguments])
    assert told.exit_code == 1
    assert "differ on 0 of 0 pictures" in told.output
