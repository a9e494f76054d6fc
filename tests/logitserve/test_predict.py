"""`logitserve predict`, against the linear model's own sums."""

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from pyarrow import parquet

from logitserve import scoring
from logitserve.cli.main import main
from logitserve.inference.card import Fit, Head, InputSpec
from logitserve.inference.predictor import Predictor
from logitserve.scoring import Picture, score
from tests import tiny_models
from tests.e2e.process import clean_environment, command, interruptible, running
from tests.tiny_models import linear_logits, png, random_picture

ROOT = Path(__file__).parents[2]
COLOR = InputSpec(height=12, width=16, channels=3, fit=Fit.STRETCH)


def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    exponentials = np.exp(logits)
    normalized: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return normalized


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Models, and a folder of pictures: b, a, a broken one, one below, and a text."""
    tiny_models.publish(tmp_path / "models")
    pictures = tmp_path / "pictures"
    (pictures / "below").mkdir(parents=True)
    for seed, name in enumerate(["b.png", "a.PNG", "below/c.png"]):
        (pictures / name).write_bytes(png(random_picture(seed)))
    (pictures / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not much of a photograph")
    (pictures / "notes.txt").write_text("not a picture, and not taken for one")
    return tmp_path


def predict(folder: Path, *arguments: str, stdin: bytes | None = None) -> Result:
    os.environ.pop("LOGITSERVE_MODELS", None)
    options = ["--models", str(folder / "models")]
    return CliRunner().invoke(main, ["predict", *options, *arguments], input=stdin)


def expected(seed: int, folder: Path, model: str = "tiny/1") -> npt.NDArray[np.float64]:
    matrix = tiny_models.weights(tiny_models.SPEC, 10, seed=0)
    assert (folder / "models" / model).is_dir()
    probabilities: npt.NDArray[np.float64] = softmax(
        linear_logits(random_picture(seed)[None], matrix)
    )[0]
    return probabilities


def test_a_folder_as_json_in_order_with_a_row_for_the_broken_file(folder: Path) -> None:
    done = predict(folder, str(folder / "pictures"), "--format", "json")
    assert done.exit_code == 1
    assert done.stderr == "1 of 3 pictures could not be scored\n"
    rows = json.loads(done.stdout)
    assert [Path(row["file"]).name for row in rows] == ["a.PNG", "b.png", "broken.jpg"]
    for row, seed in ((rows[0], 1), (rows[1], 0)):
        probabilities = expected(seed, folder)
        assert list(row["probabilities"]) == list(tiny_models.DIGIT_LABELS)
        assert list(row["probabilities"].values()) == pytest.approx(probabilities, abs=1e-5)
        assert row["argmax"] == probabilities.argmax()
        assert row["label"] == str(row["argmax"])
        assert row["probability"] == max(row["probabilities"].values())
        assert set(row) == {"file", "argmax", "label", "probability", "probabilities"}
    assert set(rows[2]) == {"file", "error"}
    assert "damaged" in rows[2]["error"]


def test_arguments_keep_their_order_and_recursion_is_asked_for(folder: Path) -> None:
    pictures = folder / "pictures"
    good = [str(pictures / name) for name in ("b.png", "below", "a.PNG")]
    done = predict(folder, *good, "--format", "json")
    assert done.exit_code == 0
    names = [Path(row["file"]).name for row in json.loads(done.stdout)]
    assert names == ["b.png", "c.png", "a.PNG"]
    done = predict(folder, str(pictures), "-r", "--format", "json")
    names = [Path(row["file"]).name for row in json.loads(done.stdout)]
    assert names == ["a.PNG", "b.png", "c.png", "broken.jpg"]


def test_a_table(folder: Path) -> None:
    path = str(folder / "pictures/b.png")
    done = predict(folder, path, "missing.png", "--top-k", "2")
    assert done.exit_code == 1
    best = expected(0, folder).argsort()[::-1][:2]
    header, first, second = done.stdout.splitlines()
    assert header.split() == ["file", "label", "probability"]
    assert first.split()[:2] == [path, str(best[0])]
    assert first.split()[3] == str(best[1])
    assert float(first.split()[2]) == pytest.approx(expected(0, folder)[best[0]], abs=2e-6)
    assert second.endswith("  error: cannot be read: No such file or directory")


def test_csv_with_all_classes_and_with_top_k(folder: Path) -> None:
    arguments = (str(folder / "pictures"), "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(predict(folder, *arguments).stdout)))
    assert [Path(row["file"]).name for row in rows] == ["a.PNG", "b.png", "broken.jpg"]
    found = [float(rows[0][f"probability_{label}"]) for label in tiny_models.DIGIT_LABELS]
    assert found == pytest.approx(expected(1, folder), abs=1e-5)
    assert rows[0]["error"] == ""
    assert rows[2]["error"]
    assert {text for name, text in rows[2].items() if name not in {"file", "error"}} == {""}
    rows = list(csv.DictReader(io.StringIO(predict(folder, *arguments, "--top-k", "3").stdout)))
    best = expected(1, folder).argsort()[::-1][:3]
    assert [rows[0][f"label_{rank}"] for rank in (1, 2, 3)] == [str(index) for index in best]
    assert "label_4" not in rows[0]


def test_a_server_gives_the_same_rows(folder: Path) -> None:
    for number in range(70):  # more than one request takes, and one of them is broken
        (folder / "pictures" / f"n{number:02}.png").write_bytes(png(random_picture(number)))
    here = predict(folder, str(folder / "pictures"), "--format", "json", "--top-k", "3")
    with running("--models", str(folder / "models")) as server:
        arguments = ["predict", str(folder / "pictures"), "--url", server.url, "--top-k", "3"]
        there = CliRunner().invoke(main, [*arguments, "--format", "json"])
        odd = CliRunner().invoke(main, [*arguments, "--model", "nothing"])
    assert there.exit_code == here.exit_code == 1
    assert there.stderr == here.stderr == "1 of 73 pictures could not be scored\n"
    rows, expected_rows = json.loads(there.stdout), json.loads(here.stdout)
    assert len(rows) == 73
    for row, wanted in zip(rows, expected_rows, strict=True):
        assert set(row) == set(wanted)
        assert row["file"] == wanted["file"]
        assert list(row.get("probabilities", ())) == list(wanted.get("probabilities", ()))
        assert row.get("probability") == pytest.approx(wanted.get("probability"), abs=1e-6)
    assert odd.exit_code == 1
    assert "nothing" in odd.stderr
    gone = CliRunner().invoke(main, arguments)
    assert gone.exit_code == 1
    assert gone.stderr.startswith(f"Error: {server.url}: ")
    both = predict(folder, *arguments[1:])
    assert both.exit_code == 2
    assert "--models applies to local scoring" in both.stderr


def test_csv_says_what_is_known(folder: Path) -> None:
    Image.new("L", (60, 60), 255).save(folder / "blank.png")
    arguments = (str(ROOT / "docs/seven.png"), str(folder / "blank.png"), "--format", "csv")
    done = predict(folder, *arguments, "--models", str(ROOT / "models"))
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["known"] for row in rows] == ["true", "false"]


def test_parquet(folder: Path) -> None:
    output = folder / "rows.parquet"
    arguments = (str(folder / "pictures"), "--format", "parquet")
    done = predict(folder, *arguments)
    assert done.exit_code == 2
    assert "--output" in done.stderr
    done = predict(folder, *arguments, "--output", str(output))
    assert done.exit_code == 1
    table = parquet.read_table(output).to_pylist()
    assert [Path(row["file"]).name for row in table] == ["a.PNG", "b.png", "broken.jpg"]
    assert [value for _, value in table[0]["probabilities"]] == pytest.approx(
        expected(1, folder), abs=1e-5
    )
    assert table[2]["probabilities"] is None
    assert table[2]["error"]


def test_parquet_without_pyarrow_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    output = folder / "rows.parquet"
    arguments = (str(folder / "pictures"), "--format", "parquet", "--output", str(output))
    done = predict(folder, *arguments)
    assert done.exit_code == 1
    assert done.stderr == (
        "Error: this needs pyarrow, which is not installed: pip install 'logitserve[parquet]'\n"
    )
    assert not output.exists()


def test_standard_input(folder: Path) -> None:
    done = predict(folder, "-", "--format", "json", stdin=png(random_picture(7)))
    (row,) = json.loads(done.stdout)
    assert row["file"] == "-"
    assert list(row["probabilities"].values()) == pytest.approx(expected(7, folder), abs=1e-5)


def test_labels_of_a_sigmoid_model(folder: Path) -> None:
    thresholds = (0.2, 0.5, 0.8)
    matrix = tiny_models.publish(
        folder / "models",
        name="scenes",
        head=Head.SIGMOID,
        labels=("car", "bus", "tram"),
        spec=COLOR,
        seed=3,
        thresholds=thresholds,
    )
    path = folder / "scene.png"
    path.write_bytes(png(random_picture(4, COLOR)))
    logits = linear_logits(random_picture(4, COLOR)[None], matrix)[0]
    probabilities = 1 / (1 + np.exp(-logits))
    holding = [
        label
        for label, probability, least in zip(
            ("car", "bus", "tram"), probabilities, thresholds, strict=True
        )
        if probability >= least
    ]
    arguments = (str(path), "--model", "scenes/1", "--format")
    (row,) = json.loads(predict(folder, *arguments, "json").stdout)
    assert row["labels"] == holding
    assert list(row["probabilities"].values()) == pytest.approx(probabilities, abs=1e-5)
    (line,) = csv.DictReader(io.StringIO(predict(folder, *arguments, "csv").stdout))
    assert line["labels"] == ";".join(holding)
    assert all(label in predict(folder, *arguments, "table").stdout for label in holding)


def test_which_model(folder: Path) -> None:
    path = str(folder / "pictures/b.png")
    tiny_models.publish(folder / "models", name="other")
    done = predict(folder, path)
    assert done.exit_code == 1
    assert done.stderr.endswith("choose one with --model: other, tiny\n")
    tiny_models.publish(folder / "models", name="digits")
    assert predict(folder, path).exit_code == 0
    done = predict(folder, path, "--model", "cats")
    assert done.stderr.endswith("there is digits, other, tiny\n")
    done = predict(folder, path, "--model", "tiny/7")
    assert done.stderr == "Error: no version '7' of model 'tiny'; there is 1\n"
    assert len(done.output.splitlines()) == 1


def test_a_folder_without_pictures_is_a_usage_error(folder: Path) -> None:
    (folder / "empty").mkdir()
    done = predict(folder, str(folder / "empty"))
    assert done.exit_code == 2
    assert "--recursive" in done.stderr


def test_an_output_that_cannot_be_written(folder: Path) -> None:
    path = str(folder / "pictures/b.png")
    done = predict(folder, path, "--output", str(folder / "missing/rows.json"))
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: cannot write ")
    assert len(done.stderr.splitlines()) == 1


def test_chunks_bound_what_is_in_memory_and_change_nothing(folder: Path) -> None:
    predictor = Predictor.load(folder / "models/tiny/1/model.onnx")
    read: list[int] = []

    def picture(number: int) -> Picture:
        def content() -> bytes:
            read.append(number)
            return b"broken" if number == 3 else png(random_picture(number))

        return Picture(str(number), content)

    rows = score(predictor, map(picture, range(10)), chunk=4)
    first = next(rows)
    assert read == [0, 1, 2, 3]
    others = list(rows)
    assert [row.file for row in [first, *others]] == [str(number) for number in range(10)]
    assert [row.file for row in others if row.error] == ["3"]
    alone = list(score(predictor, map(picture, range(10)), chunk=1))
    for together, single in zip([first, *others], alone, strict=True):
        if together.scores is not None and single.scores is not None:
            assert together.scores.probability == pytest.approx(single.scores.probability, abs=1e-6)


def test_logits_that_are_not_finite_are_the_error_of_their_picture_alone(tmp_path: Path) -> None:
    matrix = tiny_models.weights(tiny_models.SPEC, 10, seed=0)
    matrix[0] = np.float32(3e38)  # the first pixel: overflows where it is white, in two products
    matrix[1] = np.float32(3e38)
    black = np.zeros((28, 28), np.uint8)
    white = np.full((28, 28), 255, np.uint8)
    card = tiny_models.card_for(tiny_models.weights(tiny_models.SPEC, 10, seed=0))
    golden = card.goldens[0].model_copy(update={"image": png(black), "logits": (0.0,) * 10})
    card = card.model_copy(update={"goldens": (golden,)})
    path = tmp_path / "model.onnx"
    graph = tiny_models.linear_graph(tiny_models.SPEC, matrix)
    path.write_bytes(tiny_models.with_card(graph, card.to_json()).SerializeToString())
    pictures = [
        Picture(str(number), partial(bytes, content))
        for number, content in enumerate([png(white), png(black), png(white)])
    ]
    rows = list(score(Predictor.load(path), pictures))
    assert [row.error for row in rows] == [scoring.NOT_FINITE, None, scoring.NOT_FINITE]


def offline(*arguments: str) -> list[str]:
    """The command line, which asserts in the end that the service was not imported."""
    program = (
        "import sys; from logitserve.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: assert not {'fastapi', 'tensorflow'} & set(sys.modules)"
    )
    return [sys.executable, "-c", program, *arguments]


def test_a_bar_on_a_terminal_and_no_fastapi(folder: Path) -> None:
    terminal, side = pty.openpty()
    output = folder / "rows.json"
    arguments = (str(folder / "pictures/b.png"), "--models", str(folder / "models"))
    with subprocess.Popen(
        offline("predict", *arguments, "--format", "json", "--output", str(output)),
        stderr=side,
        stdout=side,
        env=clean_environment(TERM="xterm"),
    ) as process:
        os.close(side)
        shown = b"".join(until_closed(terminal))
    assert process.returncode == 0, shown
    assert b"scoring" in shown
    assert b"1/1" in shown
    rows: list[dict[str, Any]] = json.loads(output.read_bytes())
    assert len(rows) == 1


def until_closed(terminal: int) -> Iterator[bytes]:
    try:
        while data := os.read(terminal, 4096):
            yield data
    except OSError:  # how Linux says that the other side of a terminal is closed
        pass
    finally:
        os.close(terminal)


def test_an_interrupt_is_one_line_and_leaves_no_half_file(folder: Path) -> None:
    fifo = folder / "never-ends.png"
    os.mkfifo(fifo)
    output = folder / "rows.json"
    arguments = ("--models", str(folder / "models"), "--output", str(output))
    process = subprocess.Popen(
        interruptible(command("predict", str(fifo), *arguments)),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=clean_environment(),
        text=True,
    )
    with fifo.open("wb"):  # opens when the command has opened its side to read
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate()
    assert process.returncode == 1
    assert (printed, errors.strip()) == ("", "Aborted!")
    assert not output.exists()
    assert not list(folder.glob("*rows.json*"))
