"""Debian's nginx with `deploy/nginx.conf`, before two real instances."""

import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from logitserve_service.config.settings import Settings
from tests.deploy.free_ports import free_ports
from tests.deploy.load import loading
from tests.deploy.waiting import answers, wait_until
from tests.e2e.process import Server, running
from tests.load.requests import MIX, prepared

pytestmark = pytest.mark.drill

ROOT = Path(__file__).parents[2]
CONFIGURATION = (ROOT / "deploy/nginx.conf").read_text()
MODELS = ("--models", str(ROOT / "models"))


@dataclass(frozen=True)
class Proxy:
    url: str
    http_port: int
    instances: tuple[int, int]
    folder: Path
    context: ssl.SSLContext

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, verify=self.context, timeout=30)

    def access_log(self) -> str:
        return (self.folder / "access.log").read_text()


def replaced(text: str, changes: dict[str, str]) -> str:
    for before, after in changes.items():
        assert before in text, before
        text = text.replace(before, after)
    return text


def certificate(folder: Path) -> None:
    options = (
        "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        "-subj /CN=localhost -keyout key.pem -out certificate.pem"
    )
    subprocess.run(
        ["openssl", "req", *options.split(), "-addext", "subjectAltName=IP:127.0.0.1"],
        cwd=folder,
        check=True,
        capture_output=True,
    )


@contextmanager
def nginx(folder: Path, instances: tuple[int, int], **changes: str) -> Iterator[Proxy]:
    """As it stands in the repository, but for names, files, ports and some lines."""
    assert shutil.which("nginx"), "nginx is missing: `make test-deploy` installs it"
    folder.chmod(0o755)
    certificate(folder)
    http, https = free_ports(2)
    configuration = replaced(
        CONFIGURATION,
        {
            **changes,
            "/run/nginx.pid": str(folder / "nginx.pid"),
            "/etc/ssl/certs/digits.example.com.pem": str(folder / "certificate.pem"),
            "/etc/ssl/private/digits.example.com.key": str(folder / "key.pem"),
            "/var/log/nginx": str(folder),
            "digits.example.com": "localhost",
            "listen 80;": f"listen 127.0.0.1:{http};",
            "listen 443 ssl": f"listen 127.0.0.1:{https} ssl",
        },
    )
    file = folder / "nginx.conf"
    file.write_text(configuration)
    command = ["nginx", "-c", str(file), "-e", str(folder / "error.log")]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    context = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
    started = Proxy(f"https://127.0.0.1:{https}", http, instances, folder, context)
    process = subprocess.Popen([*command, "-g", "daemon off;"])
    try:
        wait_until((folder / "nginx.pid").exists, what="nginx runs")
        yield started
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    first, second = free_ports(2)
    changes = {"127.0.0.1:8000": f"127.0.0.1:{first}", "127.0.0.1:8001": f"127.0.0.1:{second}"}
    with nginx(tmp_path_factory.mktemp("nginx"), (first, second), **changes) as started:
        yield started


@contextmanager
def instance(port: int, *options: str) -> Iterator[Server]:
    with running(*MODELS, "--port", str(port), *options) as server:
        wait_until(lambda: answers(f"{server.url}/readyz"), what="the instance is ready")
        yield server


def test_digits_pass_with_their_id_and_the_address_of_the_caller(proxy: Proxy) -> None:
    request = prepared()[MIX[0]][0]
    with instance(proxy.instances[0], "--access-log", "true") as server, proxy.client() as client:
        headers = {**request.headers, "X-Request-ID": "order-66", "X-Forwarded-For": "203.0.113.9"}
        named = client.post(request.path, content=request.body, headers=headers)
        unnamed = client.post(request.path, content=request.body, headers=request.headers)
        log = server.log
        wait_until(lambda: sum("/predict" in line for line in log) == 2, what="both are logged")
    for answer in (named, unnamed):
        assert answer.status_code == 200
        assert not request.wrong(answer.content)
        assert answer.headers["strict-transport-security"]
    assert named.headers["x-request-id"] == "order-66"
    made = unnamed.headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", made)
    logged = proxy.access_log()
    assert "order-66" in logged
    assert made in logged
    assert not any("203.0.113.9" in line for line in log), "what a caller claims was believed"
    assert all("127.0.0.1" in line for line in log if "/predict" in line)


def test_a_unix_socket_will_do_too(tmp_path: Path) -> None:
    request = prepared()[MIX[0]][0]
    changes = {f"server 127.0.0.1:800{number} max_fails=0;": "" for number in (0, 1)}
    with (
        TemporaryDirectory() as folder,  # pytest's own is closed to nginx's user
        nginx(
            tmp_path,
            (0, 0),
            **changes,
            **{"# server unix:/run/logitserve": f"server unix:{folder}"},
        ) as proxy,
        running(*MODELS, "--uds", f"{folder}/a.sock", "--access-log", "true") as server,
        proxy.client() as client,
    ):
        Path(folder).chmod(0o755)
        answer = client.post(request.path, content=request.body, headers=request.headers)
        assert answer.status_code == 200
        assert not request.wrong(answer.content)
        wait_until(lambda: any("/predict" in line for line in server.log), what="it is logged")
        assert server.stop() == 0
        assert client.get("/livez").status_code == 502
    assert all("127.0.0.1" in line for line in server.log if "/predict" in line)


def test_what_is_for_insiders_is_not_there_and_plain_http_is_sent_to_https(proxy: Proxy) -> None:
    with instance(proxy.instances[0]), proxy.client() as client:
        assert client.get("/metrics").status_code == 404
        assert client.post("/v2/repository/models/digits/unload").status_code == 404
        assert client.get("/models").status_code == 200
        plain = httpx.get(f"http://127.0.0.1:{proxy.http_port}/models")
    assert plain.status_code == 308
    assert plain.headers["location"].startswith("https://")


def test_the_proxy_takes_bodies_as_large_as_the_service_does(proxy: Proxy) -> None:
    limit = Settings.model_fields["max_body_bytes"].default
    assert f"client_max_body_size {limit // 2**20}m;" in CONFIGURATION
    keep_alive = Settings.model_fields["keep_alive_seconds"].default
    (proxy_keep_alive,) = re.findall(r" keepalive_timeout (\d+)s;", CONFIGURATION)
    assert int(proxy_keep_alive) < keep_alive
    headers = {"Content-Type": "image/png"}
    with instance(proxy.instances[0]), proxy.client() as client:
        largest = client.post("/predict", content=bytes(limit), headers=headers)
        larger = client.post("/predict", content=bytes(limit + 1), headers=headers)
    assert largest.status_code == 422  # read, and no picture
    assert larger.status_code == 413


def test_instances_are_replaced_one_after_the_other_and_no_request_is_lost(proxy: Proxy) -> None:
    first, second = proxy.instances
    with (
        instance(second) as other,
        loading(4, base_url=proxy.url, verify=proxy.context) as load,
    ):
        with instance(first) as replaced_one:
            answered = load.answered
            wait_until(lambda: load.answered > answered + 50, what="load")
            assert replaced_one.stop() == 0
        with instance(first):
            answered = load.answered
            wait_until(lambda: load.answered > answered + 50, what="load")
            assert other.stop() == 0
            answered = load.answered
            wait_until(lambda: load.answered > answered + 50, what="load after the upgrade")
            load.ended.set()
    assert not load.lost
    assert load.answered > 200
    with proxy.client() as client:
        assert client.get("/models").status_code == 502
