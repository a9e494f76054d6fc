"""Where settings come from, and what is said of a wrong one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from logitserve_service.config.settings import (
    PLATFORM_VARIABLES,
    Settings,
    environment_name,
)
from logitserve_service.errors import SettingsError, StartError

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name in PLATFORM_VARIABLES or name.startswith("LOGITSERVE_"):
            monkeypatch.delenv(name)


def test_options_beat_the_environment_which_beats_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings"
    file.write_text("# a\nLOGITSERVE_PORT=1\nexport LOGITSERVE_WORKERS='2'\nLOG_LEVEL=debug\n")
    settings = Settings.read({}, file)
    assert (settings.port, settings.workers, settings.log_level) == (1, 2, "debug")
    monkeypatch.setenv("LOGITSERVE_PORT", "3")
    assert Settings.read({}, file).port == 3
    assert Settings.read({"port": "4"}, file).port == 4


def test_the_variable_of_a_setting_beats_that_of_a_platform(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PORT", "1111")
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    assert (Settings.read({}).port, Settings.read({}).workers) == (1111, 3)
    monkeypatch.setenv("LOGITSERVE_PORT", "2222")
    assert Settings.read({}).port == 2222


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("LOGITSERVE_MAX_BODY", "did you mean LOGITSERVE_MAX_BODY_BYTES?"),
        ("LOGITSERVE_WORKER", "did you mean LOGITSERVE_WORKERS?"),
        ("LOGITSERVE_XYZZY", "`logitserve serve --help` lists all"),
        ("LOGITSERVE_SERVICE", "lists all"),
    ],
)
def test_an_unknown_setting_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, hint: str
) -> None:
    file = tmp_path / "settings"
    file.write_text(f"{variable}=a-secret\n")
    with pytest.raises(StartError) as in_file:
        Settings.read({}, file)
    monkeypatch.setenv(variable, "a-secret")
    with pytest.raises(StartError) as in_environment:
        Settings.read({})
    assert str(in_file.value).startswith(f"unknown setting {variable} in {file}; ")
    assert str(in_environment.value).startswith(f"unknown setting {variable} in the environment; ")
    for refused in (in_file, in_environment):
        assert hint in str(refused.value)
        assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("host=0.0.0.0", "unknown setting host .* did you mean LOGITSERVE_HOST"),
        ("TZ=UTC", "unknown setting TZ"),
        ("LOGITSERVE_MODEL=x", "did you mean LOGITSERVE_MODELS"),
        ("LOGITSERVE_PORT", "LOGITSERVE_PORT in .* has no value"),
        ("LOGITSERVE_HOST=\xff", "cannot be read"),
    ],
)
def test_a_wrong_line_of_a_settings_file(tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "settings"
    file.write_bytes(line.encode("latin-1"))
    with pytest.raises(StartError, match=words):
        Settings.read({}, file)


def test_what_docker_and_kubernetes_set_for_a_service_of_this_name_is_no_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = "10.0.0.7"
    for name, value in {
        "SERVICE_HOST": address,
        "SERVICE_PORT": "80",
        "SERVICE_PORT_HTTP": "80",
        "PORT": f"tcp://{address}:80",
        "PORT_80_TCP": f"tcp://{address}:80",
        "PORT_80_TCP_ADDR": address,
        "PORT_80_TCP_PORT": "80",
        "PORT_80_TCP_PROTO": "tcp",
        "CANARY_SERVICE_HOST": address,  # of a service called logitserve-canary
        "CANARY_PORT": f"tcp://{address}:80",
        "CANARY_PORT_80_TCP": f"tcp://{address}:80",
    }.items():
        monkeypatch.setenv(f"LOGITSERVE_{name}", value)
    monkeypatch.setenv("PORT", "8080")
    assert Settings.read({}).port == 8080


def test_variables_of_other_commands_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGITSERVE_URL", "http://localhost:8000")
    monkeypatch.setenv("LOGITSERVE_SETTINGS", "/etc/logitserve")
    assert Settings.read({}).port == 8000


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"port": "99999"}, "port"),
        ({"cors_origins": "example.org"}, "cors_origins"),
        ({"version_policy": "newest"}, "version_policy"),
        ({"linger_seconds": "inf"}, "linger_seconds"),
    ],
)
def test_an_invalid_value_names_the_field_and_the_value(
    options: dict[str, str], field: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.read(options)
    assert refused.value.field == field
    assert options[field] in str(refused.value)


def test_an_empty_variable_leaves_a_setting_unset(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As `${X:-}` in compose files gives it; but an empty key must not open the service."""
    for name in ("LOGITSERVE_THREADS", "LOGITSERVE_PORT", "WEB_CONCURRENCY", "LOG_LEVEL"):
        monkeypatch.setenv(name, "")
    file = tmp_path / "settings"
    file.write_text("LOGITSERVE_PORT=9000\n")
    settings = Settings.read({}, file)
    assert (settings.threads, settings.port, settings.workers) == (None, 9000, 1)
    monkeypatch.setenv("LOGITSERVE_API_KEY", "")
    with pytest.raises(SettingsError):
        Settings.read({})


@pytest.mark.parametrize(
    ("given", "level"), [("INFO", "info"), ("Warning", "warning"), ("WARN", "warning")]
)
def test_levels_and_formats_have_no_case(
    monkeypatch: pytest.MonkeyPatch, given: str, level: str
) -> None:
    monkeypatch.setenv("LOG_LEVEL", given)
    monkeypatch.setenv("LOGITSERVE_LOG_FORMAT", "JSON")
    settings = Settings.read({})
    assert (settings.log_level, settings.log_format) == (level, "json")


def test_every_setting_is_documented() -> None:
    script = ROOT / "scripts/settings-reference"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    page = (ROOT / "docs/settings.md").read_text()
    assert page == done.stdout
    assert all(f"| `{environment_name(field)}`" in page for field in Settings.model_fields)
