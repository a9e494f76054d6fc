"""HTTPS and gRPC over TLS, with a certificate made here, and errors at the start."""

import re
import signal
import ssl
import subprocess
from pathlib import Path

import grpc
import httpx
import pytest

from logitserve_service.server.grpc import inference_pb2 as pb
from tests.e2e.conftest import Weights
from tests.e2e.process import Server, run, running
from tests.e2e.test_start import assert_one_clear_line
from tests.e2e.test_stopping import wait_until

QUICK = ("--linger-seconds", "0.2")


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
    host, port = server.url.removeprefix("https://").split(":")
    return ssl.get_server_certificate((host, int(port)), timeout=20)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_https_and_grpc(folder: str, tmp_path: Path, workers: str) -> None:
    certificate, key = make_certificate(tmp_path, "first")
    secure = options(certificate, key)
    with running(
        "--models", folder, "--workers", workers, "--grpc-port", "0", *secure, *QUICK
    ) as server:
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
        assert server.stop() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_renewed_certificate_is_read_again(folder: str, tmp_path: Path, workers: str) -> None:
    certificate, key = make_certificate(tmp_path, "first")
    renewed, renewed_key = make_certificate(tmp_path, "second")
    secure = options(certificate, key)
    with running("--models", folder, "--workers", workers, *secure, *QUICK) as server:
        before = shown(server)
        assert before == certificate.read_text()
        certificate.write_bytes(renewed.read_bytes())
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "".join(server.log).count("kept the certificate") == int(workers))
        assert shown(server) == before
        key.write_bytes(renewed_key.read_bytes())
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "".join(server.log).count("read the certificate again") == int(workers))
        assert shown(server) == renewed.read_text()
        assert server.stop() == 0


def test_files_that_do_not_fit(folder: str, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "first")
    _, other_key = make_certificate(tmp_path, "second")
    missing = tmp_path / "missing.pem"
    for given, words in (
        (options(missing, key), ("--tls-certificate", "missing.pem", "No such file")),
        (options(certificate, missing), ("--tls-key", "missing.pem", "No such file")),
        (options(certificate, other_key), ("--tls-key", "second.key", "is not the key")),
        (options(key, key), ("--tls-certificate", "first.key", "not a PEM file")),
        (options(certificate, key)[:2], ("--tls-key", "LOGITSERVE_TLS_KEY")),
        (options(certificate, key)[2:], ("--tls-certificate", "LOGITSERVE_TLS_CERTIFICATE")),
    ):
        assert_one_clear_line(*run("serve", "--models", folder, "--port", "0", *given), *words)


def test_a_linger_that_leaves_no_time_to_drain(folder: str) -> None:
    seconds = ("--linger-seconds", "5", "--drain-seconds", "5")
    status, printed = run("serve", "--models", folder, "--port", "0", *seconds)
    assert_one_clear_line(status, printed, "--linger-seconds", "drain_seconds")
