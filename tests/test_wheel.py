"""The wheel: what is in it, and that it serves beside other people's modules of common names."""

import os
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
from tests.test_structure import COMPILED, PACKAGES, ROOT

FOREIGN = ("inference.py", "service/__init__.py", "training.py")
BUILD = (sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory")
RAISES = "raise RuntimeError('another module of that name was imported')\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([*BUILD, folder], cwd=ROOT, check=True)
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
    sources = {
        path.relative_to(package.parent).as_posix()
        for package in PACKAGES.values()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so"
    }
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    compiled = {f"{name.replace('.', '/')}{suffix}" for name in COMPILED}
    assert compiled
    assert names == sources | compiled
    assert "logitserve_service/http/web/index.html" in names
    assert not [name for name in names if name.endswith((".c", ".o"))]


def test_it_is_for_this_python_and_platform(wheel: Path) -> None:
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    platform = sysconfig.get_platform().replace("-", "_")
    assert wheel.stem.split("-")[2:] == [python, python, platform]


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"PATH": ""}, "the C compiler, gcc, is missing"),
        ({"CC": "gcc -nostdinc"}, "no headers of C"),
    ],
)
def test_without_a_compiler_the_build_says_what_to_install(
    tmp_path: Path, variables: dict[str, str], reason: str
) -> None:
    environment = {**os.environ, "CC": "gcc", **variables}
    done = subprocess.run(
        [*BUILD, tmp_path],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (message,) = done.stderr.splitlines()
    assert message.startswith("error: ")
    assert reason in message
    assert message.endswith("apt install gcc libc6-dev python3-dev")
    assert not list(tmp_path.iterdir())


def test_it_serves_beside_other_modules_of_common_names(
    fresh: Path, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tiny_models.publish(tmp_path / "models", name="digits")
    here = tmp_path / "here"
    put_foreign_modules(here)
    monkeypatch.setattr(sys, "executable", str(fresh / "bin/python"))
    modules = [*PACKAGES, *COMPILED]
    program = f"import {', '.join(modules)}; print({', '.join(f'{n}.__file__' for n in modules)})"
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
