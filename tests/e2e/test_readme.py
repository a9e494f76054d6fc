"""What the README says, done as it stands there, with the models of the repository."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from logitserve.inference.card import METADATA_KEY, ModelCard
from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import ModelRepository
from tests.e2e.process import Server, running
from tests.logitserve.adoption.graphs import linear, save

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def block(language: str, containing: str) -> str:
    """The code block of that language that contains a text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    (found,) = [text for text in blocks if containing in text]
    return str(found)


def test_curl_as_pasted_gives_the_answer_that_stands_below_it(shipped: Server) -> None:
    command = block("sh", "curl -F").strip()
    expected = json.loads(block("json", "predictions"))
    here = command.replace("http://localhost:8000", shipped.url)
    done = subprocess.run(shlex.split(here), cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["model"] == expected["model"]
    (shown,), (prediction,) = expected["predictions"], found["predictions"]
    assert (prediction["argmax"], prediction["label"]) == (shown["argmax"], shown["label"])
    assert prediction["probability"] == pytest.approx(shown["probability"], abs=1e-5)
    assert set(prediction) == set(shown)
    assert prediction["known"] is shown["known"]
    assert prediction["probabilities"] == pytest.approx(shown["probabilities"], abs=1e-5)


def test_keys_as_pasted_let_in(tmp_path: Path) -> None:
    make, serve, ask = (
        block("sh", "openssl rand").replace(" keys", f" {tmp_path}/keys").split("\n")[:3]
    )
    subprocess.run(["sh", "-c", make], check=True)
    options = shlex.split(serve)[2:]
    with running("--models", str(ROOT / "models"), *options) as server:
        here = ask.replace("cat keys", f"cat {tmp_path}/keys").replace(
            "http://localhost:8000", server.url
        )
        for command, label in ((here, '"label":"7"'), (here.replace("Bearer ", "Bearer x"), "401")):
            done = subprocess.run(
                ["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
            )
            assert label in done.stdout, done


def test_adopting_as_pasted_publishes(tmp_path: Path) -> None:
    save(linear(("n", 3, 8, 8), end="Softmax"), tmp_path, "classifier.onnx")
    adopt, serve = block("sh", "logitserve adopt classifier.onnx").splitlines()
    subprocess.run([sys.executable, "-m", *shlex.split(adopt)], cwd=tmp_path, check=True)
    assert ModelRepository(tmp_path / "models").names() == ["flowers"]
    assert serve == "logitserve serve"


def test_a_network_of_keras_as_pasted_is_adopted_with_its_logits(tmp_path: Path) -> None:
    prelude = (
        "import keras, numpy as np\n"
        "images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3))\n"
        "classes = images.mean(axis=(1, 2)).argmax(axis=1)\n"
    )
    check = "np.save('logits.npy', model.predict(images / 255, verbose=0))\n"
    check += "np.save('images.npy', images.astype('uint8'))\n"
    program = prelude + block("python", "keras.Sequential") + check
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True)
    adopt = shlex.split(block("sh", "logitserve adopt flowers.keras"))
    subprocess.run([sys.executable, "-m", *adopt], cwd=tmp_path, check=True, capture_output=True)
    predictor = Predictor.load(ModelRepository(tmp_path / "models").model_file("flowers"))
    logits = predictor.run(np.load(tmp_path / "images.npy"))
    np.testing.assert_allclose(logits, np.load(tmp_path / "logits.npy"), rtol=1e-4, atol=1e-4)


def table() -> dict[str, tuple[str, float, tuple[float, float], float]]:
    """Model → the metric, its value, interval and the size in kB that the README's table states."""
    row = r"^\| `([a-z-]+)`.*\| ([a-zF1 ]+) ([0-9.]+) \| ([0-9.]+) to ([0-9.]+) \| ([0-9]+) kB \|$"
    return {
        name: (metric.lower().replace(" ", "_"), float(value), (float(low), float(high)), float(kb))
        for name, metric, value, low, high, kb in re.findall(row, README, re.MULTILINE)
    }


def test_the_table_states_what_the_cards_and_files_say() -> None:
    repository = ModelRepository(ROOT / "models")
    stated = table()
    assert set(stated) == set(repository.names())
    for name, (metric, value, interval, size) in stated.items():
        path = repository.model_file(name)
        metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        card = ModelCard.from_json(metadata[METADATA_KEY])
        assert value == round(card.metrics[metric], 4), name
        assert interval == tuple(round(end, 4) for end in card.intervals[metric]), name
        assert size == pytest.approx(path.stat().st_size / 1000, abs=1), name
        assert path.stat().st_size < 1_000_000, name


def test_every_make_target_and_file_that_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)
    assert named
    assert set(named) <= targets
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in link:
            assert (ROOT / link).exists(), link


def test_the_python_client_as_pasted_says_seven(shipped: Server) -> None:
    program = block("python", "Client")
    here = program.replace("http://localhost:8000", shipped.url)
    done = subprocess.run(
        [sys.executable, "-c", here], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "7"
