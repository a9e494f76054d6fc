"""`logitserve evaluate`, against sums over the linear model's own probabilities."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from logitserve.inference.card import TrainingInfo
from logitserve.inference.intervals import wilson
from logitserve_training import corruptions
from logitserve_training.datasets import mnist
from logitserve_training.progress import Reporter
from tests import tiny_models
from tests.e2e.process import clean_environment, run
from tests.training.idx_files import write_idx

TEST_SIZE = 30


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    generator = np.random.default_rng(5)
    for file, count in zip(mnist.FILES, (36, 36, TEST_SIZE, TEST_SIZE), strict=True):
        shape = (count, 28, 28) if "images" in file.name else (count,)
        highest = 256 if "images" in file.name else 9  # nothing shows a nine
        write_idx(folder / file.name, generator.integers(0, highest, shape, dtype=np.uint8))
    return folder


def test_metrics_of_a_published_model(tmp_path: Path, data: Path) -> None:
    models = tmp_path / "models"
    settings: dict[str, Any] = {"network": "mlp", "optimizer": "adam"}
    made_by = TrainingInfo(recipe="digits-mlp", seed=0, settings=settings, libraries={})
    matrix = tiny_models.publish(models, training=made_by)
    part = mnist.load(data, Reporter()).test
    logits = tiny_models.linear_logits(part.images, matrix)
    exponentials = np.exp(logits)
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    truth = np.eye(10)[part.classes]

    program = (
        "import sys; from logitserve.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: assert 'tensorflow' not in sys.modules"
    )
    arguments = ["evaluate", "tiny", "--data", str(data), "--models", str(models)]
    printed = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(),
    ).stdout
    first, *lines = printed.splitlines()
    assert first == f"{models}/tiny/1/model.onnx: {TEST_SIZE} pictures"
    line = r"^  (\w+): ([\d.]+) \(([\d.]+) to ([\d.]+)\)$"
    stated = re.findall(line, "\n".join(lines), re.MULTILINE)
    metrics = {name: float(value) for name, value, _, _ in stated}
    nobodys, labels = lines[-1], lines[len(stated) : -1]
    assert nobodys == "  9: in 0 pictures"
    by_label = r"  (\d): F1 ([\d.]+) \(([\d.]+) to ([\d.]+)\), average precision ([\d.]+) "
    for line, expected in zip(
        labels,
        f1_score(part.classes, logits.argmax(axis=1), average=None, labels=range(9)),
        strict=True,
    ):
        found = re.match(by_label, line)
        assert found is not None
        label, f1, low, high, precision = map(float, found.groups())
        assert f1 == pytest.approx(expected, abs=1e-4)
        assert low <= f1 <= high
        is_label = part.classes == label
        assert precision == pytest.approx(
            average_precision_score(is_label, probabilities[:, int(label)]), abs=1e-4
        )
        assert line.endswith(f"in {is_label.sum()} pictures")
    assert all(float(low) <= float(high) for _, _, low, high in stated)
    right = round(metrics["accuracy"] * TEST_SIZE)
    assert [float(end) for end in stated[0][2:]] == pytest.approx(
        wilson(right, TEST_SIZE), abs=1e-4
    )
    assert set(metrics) == {"accuracy", "nll", "brier", "ece"}
    assert metrics["accuracy"] == pytest.approx(
        np.mean(logits.argmax(axis=1) == part.classes), abs=1e-4
    )
    assert metrics["nll"] == pytest.approx(-np.log((probabilities * truth).sum(1)).mean(), abs=1e-4)
    assert metrics["brier"] == pytest.approx(((probabilities - truth) ** 2).sum(1).mean(), abs=1e-4)


def test_robustness_is_a_line_a_kind_and_means(tmp_path: Path, data: Path) -> None:
    models = tmp_path / "models"
    made_by = TrainingInfo(recipe="digits-mlp", seed=0, settings={}, libraries={})
    matrix = tiny_models.publish(models, training=made_by)
    options = ("--data", str(data), "--models", str(models), "--robustness")
    status, printed = run("evaluate", "tiny", *options)
    assert status == 0
    below = printed.split(f"disturbed, {TEST_SIZE} pictures of each kind:\n")[1]
    line = r"^  ([\w ]+): accuracy ([\d.]+) \(([\d.]+) to ([\d.]+)\), ece [\d.]+$"
    found = {name: float(value) for name, value, *_ in re.findall(line, below, re.MULTILINE)}
    assert set(found) == {"clean", *corruptions.KINDS}
    part = mnist.load(data, Reporter()).test
    for kind in ("stripe", "impulse noise"):
        images = corruptions.corrupted(kind, part.images)
        right = tiny_models.linear_logits(images, matrix).argmax(axis=1) == part.classes
        assert found[kind] == pytest.approx(right.mean(), abs=1e-3)
    of_mnist_c = [found[kind] for kind, each in corruptions.KINDS.items() if each.of_mnist_c]
    means = re.search(
        r"^MNIST-C, 15 kinds: mean ([\d.]+), worst ([\d.]+), ece ", below, re.MULTILINE
    )
    assert means is not None
    assert float(means[1]) == pytest.approx(np.mean(of_mnist_c), abs=1e-3)
    assert float(means[2]) == min(of_mnist_c)


def test_a_model_that_no_recipe_made(tmp_path: Path, data: Path) -> None:
    tiny_models.publish(tmp_path / "models")
    options = ("--data", str(data), "--models", str(tmp_path / "models"))
    status, printed = run("evaluate", "tiny", *options)
    assert status == 1
    assert "not trained with a recipe" in printed
    assert len(printed.splitlines()) == 1
    status, printed = run("evaluate", "cats", *options)
    assert (status, printed) == (
        1,
        f"Error: no model 'cats' in {tmp_path / 'models'}; there is tiny\n",
    )


def test_without_a_model_it_is_a_usage_error() -> None:
    status, printed = run("evaluate")
    assert status == 2
    assert "Missing argument 'MODEL[/VERSION]'" in printed


def test_two_versions_are_compared(tmp_path: Path, data: Path) -> None:
    models = tmp_path / "models"
    made_by = TrainingInfo(recipe="digits-mlp", seed=0, settings={}, libraries={})
    part = mnist.load(data, Reporter()).test
    # The second has learned the test part by heart.
    matrices = [tiny_models.publish(models, training=made_by)]
    flat = part.images.reshape(TEST_SIZE, -1) / 255
    matrix = np.linalg.lstsq(flat, 20 * np.eye(10)[part.classes], rcond=None)[0].astype(np.float32)
    tiny_models.publish(models, matrix=matrix, version="2", training=made_by)
    matrices.append(matrix)
    right = [
        tiny_models.linear_logits(part.images, each).argmax(axis=1) == part.classes
        for each in matrices
    ]
    options = ("--data", str(data), "--models", str(models))
    status, printed = run("models", "compare", "tiny/1", "tiny/2", *options)
    assert status == 0, printed
    assert f"tiny/2: {right[1].mean():.4f} of {TEST_SIZE} pictures right" in printed
    assert printed.endswith("tiny/2 is better\n")
    assert run("models", "compare", "tiny/2", "tiny/1", *options)[0] == 1
    status, printed = run("models", "compare", "tiny/1", "tiny/1", *options, "--json")
    assert status == 1
    told = json.loads(printed[printed.index("{") :])
    assert (told["second_is"], told["p"], told["pictures_needed"]) == ("cannot tell", 1.0, None)
    tiny_models.publish(models, name="other", labels=tuple("abcdefghij"), training=made_by)
    status, printed = run("models", "compare", "tiny", "other", *options)
    assert status == 1
    assert "differ in their labels or their input shape" in printed
    assert "Traceback" not in printed
