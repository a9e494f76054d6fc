"""Starting the real process, or saying in one line why not."""

import shutil
import socket
from pathlib import Path

import httpx
import pytest

from logitserve_service.config.settings import Settings
from tests import tiny_models
from tests.e2e.conftest import Weights
from tests.e2e.process import clean_environment, refused, run, running
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
    done = run("serve", "--models", str(tmp_path / "missing"), "--port", "0")
    assert_one_clear_line(*done, "does not exist")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_broken_model(tmp_path: Path, workers: str) -> None:
    tiny_models.publish(tmp_path, name="good")
    path = tmp_path / "bad/1/model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes((tmp_path / "good/1/model.onnx").read_bytes()[:5000])
    done = run("serve", "--models", str(tmp_path), "--port", "0", "--workers", workers)
    assert_one_clear_line(*done, "bad/1/model.onnx")


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("digits=7", ("version 7", "'digits'", "there is 1, 2", "--version-policy")),
        ("cats=1", ("'cats'", "no such model", "LOGITSERVE_VERSION_POLICY")),
    ],
)
def test_a_version_policy_that_cannot_be_followed(
    folder: str, policy: str, words: tuple[str, ...]
) -> None:
    done = run("serve", "--models", folder, "--port", "0", "--version-policy", policy)
    assert_one_clear_line(*done, *words)


def test_a_pinned_version_that_is_broken(tmp_path: Path) -> None:
    tiny_models.publish(tmp_path, version="1")
    (tmp_path / "tiny/2").mkdir()
    (tmp_path / "tiny/2/model.onnx").write_bytes(b"garbage")
    options = ("serve", "--models", str(tmp_path), "--port", "0", "--version-policy", "tiny=1,2")
    assert_one_clear_line(*run(*options), "tiny/2/model.onnx")


@pytest.mark.drill
@pytest.mark.parametrize("option", ["--port", "--grpc-port"])
def test_a_taken_port(folder: str, option: str) -> None:
    other = ("--port", "0") if option == "--grpc-port" else ()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, printed = run("serve", "--models", folder, *other, option, port)
    assert_one_clear_line(status, printed, f"127.0.0.1:{port}", "in use", option)


def test_an_address_of_another_machine(folder: str) -> None:
    status, printed = run("serve", "--models", folder, "--host", "192.0.2.1", "--port", "0")
    assert_one_clear_line(status, printed, "192.0.2.1", "--host")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--port", "99999"),
        ("--workers", "0"),
        ("--log-level", "loud"),
        ("--max-pixels", "many"),
        ("--model-name", "No Name"),
        ("--version-policy", "newest"),
    ],
)
def test_a_setting_that_does_not_fit(option: str, value: str) -> None:
    variable = "LOGITSERVE_" + option.removeprefix("--").replace("-", "_").upper()
    for printed in (refused(option, value), refused(**{variable: value})):
        for word in (option, variable, value):
            assert word in printed


@pytest.mark.parametrize(
    ("variable", "field", "value"),
    [
        ("LOG_LEVEL", "log_level", "loud"),
        ("WEB_CONCURRENCY", "workers", "0"),
        ("PORT", "port", "no"),
    ],
)
def test_platform_variables_are_honored(variable: str, field: str, value: str) -> None:
    printed = refused(**{variable: value})
    assert field in printed
    assert repr(value) in printed


def test_an_unknown_variable_names_the_nearest_one() -> None:
    printed = refused(LOGITSERVE_MAX_BODY_BYTE="5")
    assert "LOGITSERVE_MAX_BODY_BYTE" in printed
    assert "LOGITSERVE_MAX_BODY_BYTES" in printed


def test_a_default_model_that_is_not_there(folder: str) -> None:
    status, printed = run("serve", "--models", folder, "--port", "0", "--default-model", "cats")
    assert_one_clear_line(status, printed, "'cats'", "digits, digits-mlp", "--default-model")


def test_options_beat_environment_beats_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings"
    file.write_text("LOGITSERVE_DEFAULT_MODEL=warm\nLOGITSERVE_MAX_PIXELS=5\n")
    assert Settings.read({}, file).default_model == "warm"
    monkeypatch.setenv("LOGITSERVE_DEFAULT_MODEL", "scenes")
    assert Settings.read({}, file).default_model == "scenes"
    settings = Settings.read({"default_model": "zero"}, file)
    assert (settings.default_model, settings.max_pixels) == ("zero", 5)


def test_a_file_of_settings_is_read(folder: str, tmp_path: Path) -> None:
    """Without a default model, the path must name one."""
    for name in ("zero", "warm"):
        shutil.copytree(Path(folder) / name, tmp_path / "models" / name)
    (tmp_path / "settings").write_text(f"LOGITSERVE_MODELS={tmp_path / 'models'}\n")
    with running("--settings", str(tmp_path / "settings")) as server:
        content = png(random_picture(0))
        response = server.client.post("/predict", content=content)
        assert response.status_code == 404
        assert "warm, zero" in response.json()["detail"]
        assert server.client.post("/models/zero/predict", content=content).status_code == 200


def test_help_and_serving_import_only_what_they_need(folder: str) -> None:
    environment = clean_environment(PYTHONVERBOSE="1")
    status, printed = run("--help", environment=environment)
    assert status == 0
    assert "import 'click'" in printed
    for module in ("tensorflow", "import 'keras'"):
        assert module not in printed
    with running("--models", folder, environment=environment) as server:
        server.client.get("/readyz").raise_for_status()
    log = "".join(server.log)
    assert "import 'fastapi'" in log
    assert "import 'tensorflow'" not in log
    assert "opentelemetry.sdk" not in log  # there is no collector


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
    with running(*options) as server:
        answer = server.client.post("/models/cats/predict", content=png(picture)).json()
        assert server.client.get("/v2/models/cats/ready").status_code == 200
        # The only model is the default.
        assert server.client.post("/predict", content=png(picture)).json() == answer
    assert (answer["model"], answer["version"]) == ("cats", "3" if "3" in layout else "1")
    expected = tiny_models.linear_logits(picture[None], weights).argmax()
    assert answer["predictions"][0]["argmax"] == expected


def test_the_name_of_a_folder_of_many_models_is_refused(folder: str) -> None:
    options = ("serve", "--models", folder, "--model-name", "cats")
    assert_one_clear_line(*run(*options), "no models in", "of the one model 'cats'")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_all_interfaces_of_both_protocols(models: tuple[Path, Weights]) -> None:
    with running("--models", str(models[0]), "--host", "::") as server:
        port = httpx.URL(server.url).port
        for address in ("127.0.0.1", "[::1]"):
            assert httpx.get(f"http://{address}:{port}/livez").status_code == 200
