"""docs/adopt.md line by line: what a framework exports is adopted, and says the same."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import ModelRepository

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs/adopt.md").read_text()
SECTIONS = re.findall(
    r"^### (.+)\n(?:.*\n)*?```python\n((?:.*\n)*?)```\n+```sh\n((?:.*\n)*?)```",
    DOCUMENT,
    re.MULTILINE,
)
IMPORTS = re.compile(r"^(?:import|from) (\w+)", re.MULTILINE)


def test_the_document_has_every_framework() -> None:
    named = " ".join(name for name, _, _ in SECTIONS)
    for framework in (
        *("PyTorch", "timm", "Ultralytics", "Hugging Face Optimum", "Keras", "scikit-learn"),
        *("LightGBM", "XGBoost", "fastai"),
    ):
        assert framework in named


@pytest.mark.parametrize(
    ("export", "commands"),
    [(export, commands) for _, export, commands in SECTIONS],
    ids=[name for name, _, _ in SECTIONS],
)
def test_a_section_as_it_is_written(tmp_path: Path, export: str, commands: str) -> None:
    for package in IMPORTS.findall(export):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"NOT TESTED: {package} is not installed here")
    subprocess.run([sys.executable, "-c", export], cwd=tmp_path, check=True, capture_output=True)
    for command in commands.replace("\\\n", " ").splitlines():
        words = shlex.split(command)
        assert words[0] == "logitserve"
        subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, check=True, capture_output=True
        )
    repository = ModelRepository(tmp_path / "models")
    (name,) = repository.names()
    predictor = Predictor.load(repository.model_file(name))
    with np.load(tmp_path / "expected.npz") as expected:
        found = predictor.predict(expected["pictures"]).probabilities
        assert np.abs(found - expected["probabilities"]).max() < 1e-5
