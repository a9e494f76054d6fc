"""What the README says, done as it stands there, with the models of the repository."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import onnx
import pytest

from inference.card import METADATA_KEY, ModelCard
from inference.repository import ModelRepository
from tests.e2e.process import running

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def block(language: str, containing: str) -> str:
    """The code block of that language that contains a text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    (found,) = [text for text in blocks if containing in text]
    return str(found)


def test_curl_as_pasted_gives_the_answer_that_stands_below_it() -> None:
    command = block("sh", "curl").strip()
    expected = json.loads(block("json", "predictions"))
    with running("--models", str(ROOT / "models")) as server:
        here = command.replace("http://localhost:8000", server.url)
        done = subprocess.run(
            shlex.split(here), cwd=ROOT, capture_output=True, text=True, check=True
        )
    found = json.loads(done.stdout)
    assert found["model"] == expected["model"]
    (shown,), (prediction,) = expected["predictions"], found["predictions"]
    assert (prediction["argmax"], prediction["label"]) == (shown["argmax"], shown["label"])
    assert prediction["probability"] == pytest.approx(shown["probability"], abs=1e-5)
    assert prediction["probabilities"] == pytest.approx(shown["probabilities"], abs=1e-5)


def table() -> dict[str, tuple[float, float]]:
    """Model → accuracy and size in kB, as the README's table states them."""
    rows = re.findall(r"^\| `([a-z-]+)`.*\| ([0-9.]+) \| ([0-9]+) kB \|$", README, re.MULTILINE)
    return {name: (float(accuracy), float(size)) for name, accuracy, size in rows}


def test_the_table_states_what_the_cards_and_files_say() -> None:
    repository = ModelRepository(ROOT / "models")
    stated = table()
    assert set(stated) == set(repository.names())
    for name, (accuracy, size) in stated.items():
        path = repository.model_file(name)
        metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        card = ModelCard.from_json(metadata[METADATA_KEY])
        assert accuracy == round(card.metrics["accuracy"], 4), name
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
