"""What fuzzing has found stays mended, and a short run finds nothing new."""

import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.fuzz import make_corpus, targets
from tests.fuzz.__main__ import WATCHED
from tests.fuzz.make_corpus import CORPUS

ROOT = Path(__file__).parents[2]
RUNS = 1000
SEED = 1

INPUTS = sorted(path for path in CORPUS.rglob("*") if path.is_file())


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_input_of_the_corpora(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        targets.TARGETS[path.parent.name](path.read_bytes())


def test_the_corpora_are_small_and_whole() -> None:
    sizes = [path.stat().st_size for path in INPUTS]
    assert max(sizes) < 2_000
    assert sum(sizes) < 200_000
    for target, seeds in make_corpus.SEEDS.items():
        assert {name for name, _ in seeds()} <= {path.name for path in (CORPUS / target).iterdir()}
        assert target in targets.TARGETS


@pytest.mark.parametrize("package", WATCHED)
def test_what_guides_is_there(package: str) -> None:
    assert importlib.util.find_spec(package) is not None


def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.fail(
            "the fuzz targets were NOT RUN, because atheris is not installed: it has wheels for "
            "Linux on x86_64 (pip install atheris)"
        )
    names = ",".join(targets.TARGETS)
    options = [f"-runs={RUNS}", f"-seed={SEED}", "-print_final_stats=1", "-verbosity=0"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", names, *options, f"-artifact_prefix={tmp_path}/"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert done.stderr.count(f"stat::number_of_executed_units: {RUNS}") == len(targets.TARGETS)
    assert not list(tmp_path.iterdir())
