"""The service as compose runs it: `docker compose up`."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import yaml

from logitserve_service.config.settings import Settings
from tests import tiny_models
from tests.deploy.conftest import MEASURED, Image
from tests.deploy.engine import ROOT, Compose, docker, inspected, named_base
from tests.deploy.free_ports import free_ports
from tests.deploy.load import loading
from tests.deploy.waiting import answers, wait_until
from tests.load.requests import prepared

PROBES = ("livez", "readyz", "startupz", "healthz", "health", "ping", "v2/health/live")
KEY_FILE = "deploy/docker-compose.key.yml"


@dataclass(frozen=True)
class Up:
    """A service that compose runs."""

    url: str
    container: str
    models: Path

    def python(self, program: str) -> str:
        return docker("exec", self.container, "python", "-c", program)


@contextmanager
def up(image: Image, models: Path, *more_files: str, **variables: str) -> Iterator[Up]:
    """Bring it up on a port of the loopback address, and take it down in the end."""
    (port,) = free_ports(1)
    environment = {**image.environment, "SERVICE_PORT": str(port), "MODELS_FOLDER": str(models)}
    compose = Compose({**environment, **variables}, *more_files)
    try:
        compose.run("up", "--detach", "service")
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: answers(f"{url}/readyz"), what="the service is ready")
        except TimeoutError as error:
            raise RuntimeError(compose.run("logs", "service")) from error
        now = datetime.now(UTC)
        container = compose.container()
        started = datetime.fromisoformat(inspected(container)["State"]["StartedAt"][:23] + "Z")
        MEASURED.setdefault(
            "from the container's start to ready, s", (now - started).total_seconds()
        )
        yield Up(url, container, models)
    finally:
        compose.run("down", "--volumes", "--timeout", "30")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compose") / "models"
    shutil.copytree(ROOT / "models", folder)
    folder.parent.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def service(image: Image, models: Path) -> Iterator[Up]:
    with up(image, models) as started:
        yield started


def test_every_probe_is_answered(service: Up) -> None:
    for probe in (*PROBES, "v2/health/ready"):
        assert answers(f"{service.url}/{probe}"), probe


def test_digits_of_every_kind_of_request_are_read(service: Up) -> None:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        for requests in prepared().values():
            for request in requests:
                body, headers = request.body, request.headers
                answer = client.post(request.path, content=body, headers=headers)
                assert answer.status_code == 200, answer.text
                assert not request.wrong(answer.content)


def test_it_runs_as_nobody_in_particular_and_may_do_nothing(service: Up) -> None:
    status = service.python("print(open('/proc/1/status').read())")
    fields = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["10001"] * 4
    assert fields["Gid"].split() == ["10001"] * 4
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[capabilities], 16) == 0
    assert fields["NoNewPrivs"] == "1"


@pytest.mark.parametrize("folder", ["/", "/opt/logitserve", "/models", "/etc"])
def test_its_files_cannot_be_written(service: Up, folder: str) -> None:
    program = f"""
try:
    open('{folder}/new', 'w')
except OSError as error:
    print(error.strerror)"""
    assert service.python(program) == "Read-only file system\n"


def test_its_limits_are_those_of_the_file(service: Up) -> None:
    host = inspected(service.container)["HostConfig"]
    assert host["Memory"] == 2**30
    assert host["NanoCpus"] == 10**9
    assert host["PidsLimit"] == 256
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    (binding,) = host["PortBindings"]["8000/tcp"]
    assert binding["HostIp"] == "127.0.0.1"


def test_docker_finds_it_healthy(service: Up) -> None:
    def health() -> str:
        return str(inspected(service.container)["State"]["Health"]["Status"])

    wait_until(lambda: health() != "starting", seconds=60, what="a health check was made")
    assert health() == "healthy"


def test_a_model_that_appears_in_the_mounted_folder_is_served(service: Up) -> None:
    weights = tiny_models.publish(service.models, name="digits", version="2", seed=7)
    picture = tiny_models.random_picture(5)

    def version() -> str:
        return str(httpx.get(f"{service.url}/models/digits").json()["version"])

    wait_until(lambda: version() == "2", what="version 2 is served")
    answer = httpx.post(
        f"{service.url}/predict",
        content=tiny_models.png(picture),
        headers={"Content-Type": "image/png"},
    ).json()
    assert answer["version"] == "2"
    expected = int(tiny_models.linear_logits(picture[None], weights)[0].argmax())
    assert answer["predictions"][0]["argmax"] == expected
    shutil.rmtree(service.models / "digits/2")
    wait_until(lambda: version() == "1", what="version 1 is served again")


def test_a_stop_under_load_loses_nothing_and_ends_with_zero(image: Image, models: Path) -> None:
    with up(image, models) as service:
        networks = inspected(service.container)["NetworkSettings"]["Networks"]
        (network,) = networks.values()
        # Not by the published port: its forwarder takes connections when nobody listens.
        url = f"http://{network['IPAddress']}:8000"
        with loading(4, base_url=url) as load:
            wait_until(lambda: load.answered > 100, what="load")
            docker("stop", "--time", "30", service.container)
        state = inspected(service.container)["State"]
        log = docker("logs", service.container)
    assert load.lost == []
    assert state["ExitCode"] == 0, log
    assert not state["OOMKilled"]
    assert "Traceback" not in log


def test_a_stop_right_after_the_start(image: Image) -> None:
    """Of process 1, which would ignore a signal that it has not asked for."""
    for _ in range(5):
        name = docker("run", "--detach", "--tmpfs=/tmp", image.name).strip()
        try:
            docker("stop", "--time", "30", name)
            state = inspected(name)["State"]
            lived = [datetime.fromisoformat(state[key][:19]) for key in ("StartedAt", "FinishedAt")]
            assert state["ExitCode"] == 0
            assert (lived[1] - lived[0]).total_seconds() < 20
        finally:
            docker("rm", "--force", name)


def test_a_key_from_a_file_is_asked_for(image: Image, models: Path, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("a-key-in-a-file\n")
    key_file.chmod(0o644)
    files = {"API_KEY_FILE": str(key_file), "METRICS_KEY_FILE": str(key_file)}
    with up(image, models, KEY_FILE, **files) as service:
        url = f"{service.url}/models"
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers={"Authorization": "Bearer wrong"}).status_code == 401
        right = httpx.get(url, headers={"Authorization": "Bearer a-key-in-a-file"})
        assert right.status_code == 200
        health = docker("exec", service.container, "python", "-m", "logitserve.healthcheck")
        assert health == ""
        assert "a-key-in-a-file" not in docker("inspect", service.container)


def test_an_empty_file_of_keys_stops_the_start_and_opens_nothing(image: Image) -> None:
    options = ["--rm", "--tmpfs=/tmp", "--env=LOGITSERVE_API_KEY_FILE=/dev/null"]
    run = ["run", *options, image.name]
    assert docker(*run, check=False) == ""
    with pytest.raises(RuntimeError, match="LOGITSERVE_API_KEY_FILE"):
        docker(*run)


def test_every_part_of_the_file_is_valid_for_compose(engine: None) -> None:
    del engine
    compose = Compose({"API_KEY_FILE": "/keys", "METRICS_KEY_FILE": "/key"}, KEY_FILE)
    profiles = [f"--profile={name}" for name in ("monitoring", "load", "train")]
    rendered = yaml.safe_load(compose.run(*profiles, "config"))
    assert set(rendered["services"]) == {"service", "prometheus", "grafana", "load", "train"}
    for name, described in rendered["services"].items():
        assert described["read_only"] is True, name
        assert described["cap_drop"] == ["ALL"], name
        assert described["logging"]["options"]["max-size"] == "10m", name
        assert described["security_opt"] == ["no-new-privileges:true"], name
    assert rendered["secrets"]["api_key"]["file"] == "/keys"
    assert rendered["secrets"]["metrics_key"]["file"] == "/key"
    mounts = str(rendered["services"]["prometheus"]["volumes"])
    assert "/key" in mounts
    assert "/keys" not in mounts


def test_the_files_are_valid_by_the_schema_of_the_compose_specification() -> None:
    check = [str(Path(sys.executable).parent / "uv"), "tool", "run", "check-jsonschema==0.39.0"]
    files = [str(ROOT / "docker-compose.yml"), str(ROOT / KEY_FILE)]
    done = subprocess.run(
        [*check, "--builtin-schema", "vendor.compose-spec", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_file_agrees_with_the_dockerfile_and_the_settings() -> None:
    described = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name in ("service", "load", "train"):
        args = described[name]["build"]["args"]
        assert args == {"PYTHON_IMAGE": f"${{PYTHON_IMAGE:-{named_base()}}}"}, name
    grace = float(described["service"]["stop_grace_period"].removesuffix("s"))
    assert grace > Settings.model_fields["drain_seconds"].default
    others = {"FORWARDED_ALLOW_IPS", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SERVICE_NAME"}
    for passed_on in set(described["service"]["environment"]) - others:
        field = passed_on.removeprefix("LOGITSERVE_").lower()
        assert field in Settings.model_fields, passed_on
    for name in ("prometheus", "grafana"):
        assert re.search(r":v?\d+\.\d+\.\d+$", described[name]["image"]), "not pinned"
