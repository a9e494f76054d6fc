"""`logitserve models`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from logitserve.cli.main import main
from logitserve.inference.card import DatasetInfo, Head, TrainingInfo
from tests import tiny_models


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_models.publish(tmp_path, metrics={"accuracy": 0.975, "nll": 0.1})
    tiny_models.publish(tmp_path, version="2", temperature=1.5)
    tiny_models.publish(
        tmp_path,
        name="scenes",
        head=Head.SIGMOID,
        labels=("car", "bus"),
        thresholds=(0.25, 0.5),
        dataset=DatasetInfo(
            name="Streets", sha256="0" * 64, train=30, validation=5, test=7, parts={}
        ),
        training=TrainingInfo(recipe="own", seed=3, settings={"epochs": 2}, libraries={"x": "1"}),
    )
    return tmp_path


def models(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["models", *arguments, "--models", str(folder)])


def test_list(folder: Path) -> None:
    done = models(folder, "list")
    assert done.exit_code == 0
    header, *rows = [line.split() for line in done.stdout.splitlines()]
    assert header == ["MODEL", "VERSION", "HEAD", "LABELS", "SIZE", "ACCURACY", "CREATED"]
    assert [row[:4] for row in rows] == [
        ["scenes", "1", "sigmoid", "2"],
        ["tiny", "1", "softmax", "10"],
        ["tiny", "2", "softmax", "10"],
    ]
    assert [row[6] for row in rows] == ["–", "0.9750", "–"]
    assert rows[0][7] == "2026-01-01"


def test_list_as_json(folder: Path) -> None:
    listed = json.loads(models(folder, "list", "--json").stdout)
    file = folder / "tiny/1/model.onnx"
    assert listed[1] == {
        "name": "tiny",
        "version": "1",
        "bytes": file.stat().st_size,
        "description": "A linear layer for tests.",
        "head": "softmax",
        "labels": list("0123456789"),
        "metrics": {"accuracy": 0.975, "nll": 0.1},
        "created": "2026-01-01T00:00:00Z",
        "license": "Apache-2.0",
    }


def test_a_model_that_must_not_be_served_is_listed_with_the_reason(folder: Path) -> None:
    file = folder / "tiny/2/model.onnx"
    file.write_bytes(file.read_bytes()[:500])
    done = models(folder, "list")
    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == 4
    assert done.stderr.startswith("tiny/2 is refused: ")
    assert len(done.stderr.splitlines()) == 1
    listed = json.loads(models(folder, "list", "--json").stdout)
    assert set(listed[2]) == {"name", "version", "bytes", "error"}


def test_show(folder: Path) -> None:
    done = models(folder, "show", "scenes")
    assert done.exit_code == 0
    shown = dict(line.split("  ", 1) for line in done.stdout.splitlines())
    lines = {name: text.strip() for name, text in shown.items()}
    assert lines["model"] == "scenes version 1"
    assert lines["labels"] == "car, bus"
    assert lines["thresholds"] == "0.25, 0.5"
    assert lines["input"] == "28×28×1 pixels, fit: stretch"
    assert lines["data set"] == "Streets: 30 to train, 5 to choose, 7 to test"
    assert lines["recipe"] == "own, seed 3"
    assert "tiny version 2" in models(folder, "show", "tiny").stdout
    assert "accuracy 0.9750" in models(folder, "show", "tiny/1").stdout


def test_show_as_json(folder: Path) -> None:
    shown = json.loads(models(folder, "show", "tiny", "--json").stdout)
    assert shown["file"] == str(folder / "tiny/2/model.onnx")
    assert shown["temperature"] == 1.5
    assert "goldens" not in shown


def test_errors_are_one_line(folder: Path, tmp_path: Path) -> None:
    done = models(folder, "show", "cats")
    assert (done.exit_code, done.stderr) == (
        1,
        f"Error: no model 'cats' in {folder}; there is scenes, tiny\n",
    )
    done = models(tmp_path / "nothing", "list")
    assert done.exit_code == 1
    assert "does not exist" in done.stderr
