"""Starting and stopping the real process."""

import shutil
import signal
import socket
from pathlib import Path

import httpx
import pytest

from tests import tiny_models
from tests.e2e.conftest import Weights
from tests.e2e.process import START_SECONDS, clean_environment, run, running
from tests.tiny_models import png, random_picture


@pytest.fixture
def folder(models: tuple[Path, Weights]) -> str:
    return str(models[0])


def assert_one_clear_line(status: int, printed: str, *words: str) -> None:
    assert status == 1, printed
    lines = printed.strip().splitlines()
    assert len(lines) == 1, printed
    assert lines[0].startswith("Error: ")
    for word in words:
        assert word in lines[0]


def test_no_models(tmp_path: Path) -> None:
    assert_one_clear_line(*run("serve", "--models", str(tmp_path)), "no models in")
    missing = str(tmp_path / "missing")
    assert_one_clear_line(*run("serve", "--models", missing), "does not exist")


def test_a_broken_model(tmp_path: Path) -> None:
    tiny_models.publish(tmp_path, name="good")
    path = tmp_path / "bad/1/model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes((tmp_path / "good/1/model.onnx").read_bytes()[:5000])
    assert_one_clear_line(*run("serve", "--models", str(tmp_path)), "bad/1/model.onnx")
    assert_one_clear_line(
        *run("serve", "--models", str(tmp_path), "--workers", "2"), "bad/1/model.onnx"
    )


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("digits=7", ("version 7", "'digits'", "there is 1, 2", "--version-policy")),
        ("cats=1", ("'cats'", "no such model", "LOGITSERVE_VERSION_POLICY")),
        ("newest", ("'newest'", "--version-policy", "digits=2")),
    ],
)
def test_a_version_policy_that_cannot_be_followed(
    folder: str, policy: str, words: tuple[str, ...]
) -> None:
    options = ("serve", "--models", folder, "--version-policy", policy)
    assert_one_clear_line(*run(*options), *words)


def test_a_pinned_version_that_is_broken(tmp_path: Path) -> None:
    tiny_models.publish(tmp_path, version="1")
    (tmp_path / "tiny/2").mkdir()
    (tmp_path / "tiny/2/model.onnx").write_bytes(b"garbage")
    options = ("serve", "--models", str(tmp_path), "--version-policy", "tiny=1,2")
    assert_one_clear_line(*run(*options), "tiny/2/model.onnx")


def test_a_taken_port(folder: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, printed = run("serve", "--models", folder, "--port", port)
    assert_one_clear_line(status, printed, f"127.0.0.1:{port}", "in use", "--port")


def test_an_address_of_another_machine(folder: str) -> None:
    status, printed = run("serve", "--models", folder, "--host", "192.0.2.1", "--port", "0")
    assert_one_clear_line(status, printed, "192.0.2.1", "--host")


@pytest.mark.parametrize(
    ("option", "value"),
    [("--port", "99999"), ("--workers", "0"), ("--log-level", "loud"), ("--max-pixels", "many")],
)
def test_a_setting_that_does_not_fit(folder: str, option: str, value: str) -> None:
    variable = "LOGITSERVE_" + option.removeprefix("--").replace("-", "_").upper()
    status, printed = run("serve", "--models", folder, option, value)
    assert_one_clear_line(status, printed, option, variable, value)
    environment = clean_environment(**{variable: value})
    status, printed = run("serve", "--models", folder, environment=environment)
    assert_one_clear_line(status, printed, option, variable, value)


def test_a_default_model_that_is_not_there(folder: str) -> None:
    status, printed = run("serve", "--models", folder, "--default-model", "cats")
    assert_one_clear_line(status, printed, "'cats'", "digits, scenes", "--default-model")


def served_default(*options: str, environment: dict[str, str] | None = None) -> str:
    with running(*options, environment=environment) as server:
        models = httpx.get(f"{server.url}/models", timeout=START_SECONDS).json()["models"]
        return "".join(model["name"] for model in models if model["default"])


def test_options_beat_environment_beats_file(folder: str, tmp_path: Path) -> None:
    file = tmp_path / "settings"
    file.write_text(f"LOGITSERVE_DEFAULT_MODEL=warm\nLOGITSERVE_MODELS={folder}\n")
    from_file = ("--settings", str(file))
    variables = clean_environment(LOGITSERVE_DEFAULT_MODEL="scenes")
    assert served_default(*from_file) == "warm"
    assert served_default(*from_file, environment=variables) == "scenes"
    chosen = (*from_file, "--default-model", "zero")
    assert served_default(*chosen, environment=variables) == "zero"


def test_the_only_model_is_the_default(folder: str, tmp_path: Path) -> None:
    shutil.copytree(Path(folder) / "zero", tmp_path / "zero")
    assert served_default("--models", str(tmp_path)) == "zero"


def test_without_a_default_model_the_path_must_name_one(folder: str, tmp_path: Path) -> None:
    for name in ("zero", "warm"):
        shutil.copytree(Path(folder) / name, tmp_path / name)
    with running("--models", str(tmp_path)) as server:
        headers = {"content-type": "image/png"}
        content = png(random_picture(0))
        response = httpx.post(
            f"{server.url}/predict", content=content, headers=headers, timeout=START_SECONDS
        )
        assert response.status_code == 404
        assert "warm, zero" in response.json()["detail"]
        path = f"{server.url}/models/zero/predict"
        assert (
            httpx.post(path, content=content, headers=headers, timeout=START_SECONDS).status_code
            == 200
        )


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_clean(folder: str, workers: str, number: signal.Signals) -> None:
    with running("--models", folder, "--workers", workers) as server:
        assert httpx.get(f"{server.url}/readyz", timeout=START_SECONDS).status_code == 200
        assert server.stop(number) == 0
    assert "Traceback" not in "".join(server.log)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_folder_that_workers_share_goes_with_the_service(
    folder: str, tmp_path: Path, workers: str
) -> None:
    environment = clean_environment(TMPDIR=str(tmp_path))
    with running("--models", folder, "--workers", workers, environment=environment) as server:
        httpx.get(f"{server.url}/readyz", timeout=START_SECONDS).raise_for_status()
        assert len(list(tmp_path.glob("logitserve-*"))) == 1
        assert server.stop() == 0
    assert list(tmp_path.iterdir()) == []


def test_platform_variables_are_honored(folder: str) -> None:
    environment = clean_environment(LOG_LEVEL="loud", LOGITSERVE_MODELS=folder)
    assert_one_clear_line(*run("serve", environment=environment), "log_level", "'loud'")
    environment = clean_environment(WEB_CONCURRENCY="0", LOGITSERVE_MODELS=folder)
    assert_one_clear_line(*run("serve", environment=environment), "workers", "'0'")
    environment = clean_environment(PORT="no", LOGITSERVE_MODELS=folder)
    assert_one_clear_line(*run("serve", environment=environment), "port", "'no'")


def test_help_and_serving_do_not_import_tensorflow(folder: str) -> None:
    environment = clean_environment(PYTHONVERBOSE="1")
    status, printed = run("--help", environment=environment)
    assert status == 0
    assert "import 'click'" in printed
    assert "tensorflow" not in printed
    assert "import 'keras'" not in printed
    with running("--models", folder, environment=environment) as server:
        httpx.get(f"{server.url}/readyz", timeout=START_SECONDS).raise_for_status()
    assert "import 'fastapi'" in "".join(server.log)
    assert "import 'tensorflow'" not in "".join(server.log)


@pytest.mark.parametrize("layout", ["model.onnx", "3/model.onnx"])
def test_a_folder_of_one_model_is_served_by_the_name_that_it_is_given(
    tmp_path: Path, layout: str
) -> None:
    weights = tiny_models.publish(tmp_path / "made")
    target = tmp_path / "mounted" / layout
    target.parent.mkdir(parents=True)
    shutil.copy(tmp_path / "made/tiny/1/model.onnx", target)
    picture = random_picture(seed=3)
    options = ("--models", str(tmp_path / "mounted"), "--model-name", "cats")
    with running(*options) as server, httpx.Client(base_url=server.url) as client:
        answer = client.post(
            "/models/cats/predict", content=png(picture), headers={"Content-Type": "image/png"}
        ).json()
        assert client.get("/v2/models/cats/ready").status_code == 200
    assert (answer["model"], answer["version"]) == ("cats", "3" if "3" in layout else "1")
    expected = tiny_models.linear_logits(picture[None], weights).argmax()
    assert answer["predictions"][0]["argmax"] == expected


def test_the_name_of_a_folder_of_many_models_is_refused(folder: str) -> None:
    options = ("serve", "--models", folder, "--model-name", "cats")
    assert_one_clear_line(*run(*options), "no models in", "of the one model 'cats'")
    options = ("serve", "--models", folder, "--model-name", "No Name")
    assert_one_clear_line(*run(*options), "--model-name", "LOGITSERVE_MODEL_NAME")
