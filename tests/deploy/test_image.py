"""What is in the image, and what is not."""

import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.deploy.conftest import MEASURED, Image, layer_sizes
from tests.deploy.engine import BUILD_SECONDS, ROOT, docker, inspected, timed
from tests.deploy.waiting import answers, wait_until
from tests.test_structure import COMPILED

MOST_MEGABYTES = 350


def inside(image: Image, program: str) -> str:
    """What Python prints in a container of the image."""
    options = ["--rm", "--read-only", "--network=none", "--entrypoint=python"]
    return docker("run", *options, image.name, "-c", program)


def test_it_adds_at_most_350_megabytes_to_its_base(image: Image) -> None:
    sizes, below = layer_sizes(image.name), layer_sizes(image.base)
    added = {made_by: size for made_by, size in sizes.items() if made_by not in below}
    for made_by, size in added.items():
        MEASURED[f"MB: {made_by[-60:]}"] = size
    assert len(added) == 4  # tini and the user, dependencies, models, code
    assert sum(added.values()) < MOST_MEGABYTES


def test_it_says_what_it_is_and_how_it_is_stopped(image: Image) -> None:
    config = inspected(image.name)["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["tini", "-e", "143", "--", "logitserve"]
    assert config["Cmd"] == ["serve"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "-m", "logitserve.healthcheck"]
    assert set(config["ExposedPorts"]) == {"8000/tcp"}
    assert "ORT_DISABLE_TELEMETRY=1" in config["Env"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == "logitserve"
    version = inside(image, "import importlib.metadata as m; print(m.version('logitserve'))")
    assert labels["org.opencontainers.image.version"] == version.strip()


@pytest.mark.parametrize(
    "package", ["tensorflow", "pip", "setuptools", "hatchling", "Cython", "pytest"]
)
def test_it_has_nothing_that_builds_or_trains(image: Image, package: str) -> None:
    program = (
        "import importlib.util, sys; "
        f"found = importlib.util.find_spec('{package}'); "
        "print(found is None or not found.origin.startswith('/opt/logitserve'))"
    )
    assert inside(image, program) == "True\n"


def test_it_has_no_compiler_and_no_cache(image: Image) -> None:
    program = (
        "import pathlib, shutil; "
        "print([c for c in ('gcc', 'cc', 'g++', 'clang', 'make') if shutil.which(c)]); "
        "print([str(p) for p in pathlib.Path('/').glob('**/.cache') if '/proc/' not in str(p)])"
    )
    assert inside(image, program) == "[]\n[]\n"


def test_its_compiled_modules_are_those_of_its_python(image: Image) -> None:
    assert COMPILED
    assert inside(image, f"import {', '.join(COMPILED)}; print('all')") == "all\n"


def test_grpc_and_tracing_are_there_for_those_who_turn_them_on(image: Image) -> None:
    assert inside(image, "import grpc, opentelemetry.sdk; print('both')") == "both\n"


def test_it_brings_the_models_of_the_repository(image: Image) -> None:
    listed = docker("run", "--rm", "--read-only", image.name, "models", "list")
    for model in (ROOT / "models").iterdir():
        assert model.name in listed


@pytest.mark.parametrize("user", ["54321:0", "54321:54321", "0:0"])
def test_any_user_may_run_it(image: Image, user: str) -> None:
    """OpenShift takes a user of its own choice, and the group 0."""
    hardened = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
    options = (*hardened, f"--user={user}", "--publish=127.0.0.1::8000")
    name = docker("run", "--detach", "--rm", *options, image.name).strip()
    try:
        url = f"http://{docker('port', name, '8000').splitlines()[0]}"
        wait_until(lambda: answers(f"{url}/readyz"), what="it is ready")
        seven = (ROOT / "docs/seven.png").read_bytes()
        answer = httpx.post(f"{url}/predict", files={"file": seven}, timeout=30)
        assert answer.json()["predictions"][0]["label"] == "7"
        uid = docker("exec", name, "python", "-c", "import os; print(os.getuid())")
        assert uid.strip() == user.partition(":")[0]
    finally:
        docker("stop", name)


def test_a_change_of_the_code_makes_one_small_layer_anew(image: Image, tmp_path: Path) -> None:
    context = tmp_path / "context"
    build_files = ("Dockerfile", ".dockerignore", "pyproject.toml", "hatch_build.py")
    names = (*build_files, "LICENSE", "README.md")
    folders = ("requirements", "logitserve", "models", "service", "training")
    for name in folders:
        shutil.copytree(ROOT / name, context / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in names:
        shutil.copy2(ROOT / name, context / name)
    build = ["docker", "build", "--target=service", f"--build-arg=PYTHON_IMAGE={image.base}"]
    environment = {**os.environ, **image.environment}

    def built(tag: str) -> list[str]:
        subprocess.run(
            [*build, f"--tag={tag}", "."],
            cwd=context,
            env=environment,
            check=True,
            capture_output=True,
            timeout=BUILD_SECONDS,
        )
        return list(inspected(tag)["RootFS"]["Layers"])

    before = built("logitserve-test:before")
    with (context / "service/logitserve_service/http/app.py").open("a") as code:
        code.write("\n# changed\n")
    with timed(MEASURED, "image after a change of the code, s"):
        after = built("logitserve-test:after")
    assert after[:-1] == before[:-1]
    assert after[-1] != before[-1]
    docker("rmi", "logitserve-test:before", "logitserve-test:after")
