"""The wheel: what is in it, and that it serves beside other people's modules of common names."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests import tiny_models
from tests.e2e.process import clean_environment, running
from tests.test_structure import PACKAGES, ROOT

FOREIGN = ("inference.py", "service/__init__.py", "training.py")
RAISES = "raise RuntimeError('another module of that name was imported')\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", str(folder)], cwd=ROOT, check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """Variables with which nothing of this checkout can be imported."""
    found = clean_environment()
    found.pop("PYTHONPATH", None)
    return found


@pytest.fixture(scope="module")
def fresh(
    wheel: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A virtual environment with the wheel, foreign modules, and behind them our dependencies."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    install = ["--python", str(folder), "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, *install, str(wheel)], env=environment, check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A folder that a .pth file names is searched last, and its own .pth files are not followed:
    # where this checkout is installed as editable, it is not found.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    put_foreign_modules(packages)
    return folder


def put_foreign_modules(folder: Path) -> None:
    for name in FOREIGN:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(RAISES)


def test_it_holds_all_files_of_the_three_packages_and_no_other(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in names} == set(PACKAGES)
    assert names == {
        path.relative_to(package.parent).as_posix()
        for package in PACKAGES.values()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "logitserve_service/http/web/index.html" in names


def test_it_serves_beside_other_modules_of_common_names(
    fresh: Path, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tiny_models.publish(tmp_path / "models", name="digits")
    here = tmp_path / "here"
    put_foreign_modules(here)
    monkeypatch.setattr(sys, "executable", str(fresh / "bin/python"))
    program = f"import {', '.join(PACKAGES)}; print({', '.join(f'{n}.__file__' for n in PACKAGES)})"
    imported = subprocess.check_output(
        [sys.executable, "-c", program], cwd=here, env=environment, text=True
    )
    assert all(Path(file).is_relative_to(fresh) for file in imported.split())
    models = f"--models={tmp_path}/models"
    listing = [str(fresh / "bin/logitserve"), "models", "list", models]
    assert b"digits" in subprocess.check_output(listing, cwd=here, env=environment)

    image = tiny_models.random_picture(3)
    # `python -m` searches the working directory first.
    wrapper = ["env", f"--chdir={here}"]
    with running(models, environment=environment, wrapper=wrapper) as server:
        response = server.client.post(
            "/predict", content=tiny_models.png(image), headers={"content-type": "image/png"}
        )
        page = server.client.get("/", headers={"accept": "text/html"})
    (prediction,) = response.raise_for_status().json()["predictions"]
    powers = np.exp(tiny_models.linear_logits(image[None], weights)[0])
    expected = (powers / powers.sum()).tolist()
    assert list(prediction["probabilities"].values()) == pytest.approx(expected, abs=1e-6)
    assert page.raise_for_status().text.startswith("<!doctype html>")
