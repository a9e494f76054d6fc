"""HTTPS and gRPC over TLS, with a certificate made here, and errors at the start."""

import re
import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
import pytest

from logitserve_service.config.settings import Settings
from logitserve_service.errors import SettingsError
from logitserve_service.server import tls
from tests.e2e.conftest import Weights
from tests.e2e.metrics import wait_until
from tests.e2e.process import Server, run, running
from tests.e2e.test_start import assert_one_clear_line
from tests.forms import pb


@pytest.fixture
def folder(models: tuple[Path, Weights]) -> str:
    return str(models[0])


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", str(key)),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def options(certificate: Path, key: Path) -> tuple[str, ...]:
    return ("--tls-certificate", str(certificate), "--tls-key", str(key))


def shown(server: Server) -> str:
    """The certificate that the server shows to a new connection, as PEM."""
    return shown_at(*server.address)


def shown_at(host: str, port: int) -> str:
    return ssl.get_server_certificate((host, port), timeout=20)


class Secured(NamedTuple):
    server: Server
    certificate: Path
    key: Path
    workers: int


@pytest.fixture(scope="module", params=[1, 2])
def secured(
    models: tuple[Path, Weights], tmp_path_factory: pytest.TempPathFactory, request: Any
) -> Iterator[Secured]:
    certificate, key = make_certificate(tmp_path_factory.mktemp("tls"), "first")
    workers = ("--workers", str(request.param), "--grpc-port", "0", "--linger-seconds", "0.2")
    with running("--models", str(models[0]), *workers, *options(certificate, key)) as server:
        yield Secured(server, certificate, key, request.param)
        assert server.stop() == 0


def test_https_and_grpc(secured: Secured) -> None:
    server, certificate = secured.server, secured.certificate
    assert server.url.startswith("https://")
    trusted = ssl.create_default_context(cafile=str(certificate))
    with httpx.Client(base_url=server.url, verify=trusted, timeout=20) as client:
        assert client.get("/readyz").status_code == 200
        assert client.get("/models").json()["models"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/readyz", timeout=20)
    (port,) = re.findall(r"serving gRPC on port (\d+)", "".join(server.log))
    credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ServerReady",
            request_serializer=pb.ServerReadyRequest.SerializeToString,
            response_deserializer=pb.ServerReadyResponse.FromString,
        )
        assert call(pb.ServerReadyRequest(), timeout=20).ready


@pytest.mark.drill
def test_a_renewed_certificate_is_read_again(secured: Secured, tmp_path: Path) -> None:
    server, certificate, key, workers = secured

    def said(what: str) -> bool:
        return "".join(server.log).count(what) == workers

    renewed, renewed_key = make_certificate(tmp_path, "second")
    before = shown(server)
    assert before == certificate.read_text()
    certificate.write_bytes(renewed.read_bytes())
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: said("the old certificate stays in use"))
    (grpc_port,) = set(re.findall(r"serving gRPC on port (\d+)", "".join(server.log)))
    assert shown(server) == shown_at("localhost", int(grpc_port)) == before
    key.write_bytes(renewed_key.read_bytes())
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: said("the certificate was read again"))
    assert shown(server) == renewed.read_text()
    for _ in range(8):  # any of the workers
        assert shown_at("localhost", int(grpc_port)) == renewed.read_text()


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "first")
    _, other_key = make_certificate(tmp_path, "second")
    missing = tmp_path / "missing.pem"
    for files, words in (
        ((missing, key), ("tls_certificate", "missing.pem", "No such file")),
        ((certificate, missing), ("tls_key", "missing.pem", "No such file")),
        ((certificate, other_key), ("tls_key", "second.key", "is not the key")),
        ((key, key), ("tls_certificate", "first.key", "not a PEM file")),
        ((certificate, None), ("tls_key", "")),
        ((None, key), ("tls_certificate", "")),
    ):
        given = dict(zip(("tls_certificate", "tls_key"), files, strict=True))
        settings = Settings.read({name: str(file) for name, file in given.items() if file})
        with pytest.raises(SettingsError) as error:
            tls.context(settings)
        assert error.value.field == words[0]
        for word in words:
            assert word in str(error.value)


def test_what_does_not_fit_ends_the_start_in_one_line(folder: str, tmp_path: Path) -> None:
    certificate, _ = make_certificate(tmp_path, "first")
    for given, words in (
        (options(certificate, certificate), ("--tls-certificate", "first.pem")),
        (("--linger-seconds", "5", "--drain-seconds", "5"), ("--linger-seconds", "drain_seconds")),
    ):
        done = run("serve", "--models", folder, "--port", "0", *given)
        assert_one_clear_line(*done, *words)
