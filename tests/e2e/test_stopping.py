"""Stopping the service, and replacing workers that die, while clients ask."""

import secrets
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from tests.e2e.busy_clients import BusyClients
from tests.e2e.collector import Collector
from tests.e2e.conftest import Weights
from tests.e2e.metrics import wait_until
from tests.e2e.process import Server, clean_environment, running
from tests.e2e.sockets import connect, read_all
from tests.forms import pb

pytestmark = pytest.mark.drill

QUICK = ("--linger-seconds", "0.3", "--drain-seconds", "6")


@pytest.fixture
def folder(models: tuple[Path, Weights]) -> str:
    return str(models[0])


def workers_of(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def listens(server: Server) -> bool:
    connections = psutil.Process(server.process.pid).net_connections()
    return any(connection.status == psutil.CONN_LISTEN for connection in connections)


def grpc_is_ready(channel: grpc.Channel) -> bool:
    asked = channel.unary_unary(
        "/inference.GRPCInferenceService/ServerReady",
        request_serializer=pb.ServerReadyRequest.SerializeToString,
        response_deserializer=pb.ServerReadyResponse.FromString,
    )
    return bool(asked(pb.ServerReadyRequest(), timeout=20).ready)


@pytest.mark.parametrize(("workers", "number"), [("1", signal.SIGTERM), ("2", signal.SIGINT)])
def test_a_stop_loses_no_request(
    folder: str, weights: Weights, workers: str, number: signal.Signals
) -> None:
    with running("--models", folder, "--workers", workers, *QUICK) as server:
        clients = BusyClients(server.url, weights["digits/2"], clients=8)
        with clients.asking() as tally:
            clients.wait_for(answered=100)
            assert server.stop(number) == 0
    assert tally.lost == []
    assert tally.closing >= 8
    assert tally.refused == 8
    assert "Traceback" not in "".join(server.log)


LINGER_SECONDS = 1


def assert_unready_but_open(server: Server, client: httpx.Client) -> None:
    wait_until(lambda: client.get("/readyz").status_code == 503)
    for path in ("/health", "/startupz", "/ping", "/v2/health/ready"):
        response = client.get(path)
        assert response.status_code == 503, path
        assert response.headers["connection"] == "close"
        assert "stopping" in response.text
    for path in ("/livez", "/v2/health/live", "/models"):
        response = client.get(path)
        assert response.status_code == 200
        assert response.headers["connection"] == "close"
    assert server.process.poll() is None


@pytest.mark.parametrize(("workers", "number"), [("1", signal.SIGTERM), ("2", signal.SIGINT)])
def test_a_stop(
    folder: str, tmp_path: Path, collector: Collector, workers: str, number: signal.Signals
) -> None:
    """Unready at once, yet open; what is arriving is answered; then nothing is left."""
    trace_id = secrets.token_hex(16)
    environment = clean_environment(
        TMPDIR=str(tmp_path),
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_EXPORTER_OTLP_COMPRESSION="none",
    )
    options = (
        *("--linger-seconds", f"{LINGER_SECONDS}", "--drain-seconds", "10"),
        *("--workers", workers, "--grpc-port", "0", "--access-log", "true"),
    )
    with (
        running("--models", folder, *options, environment=environment) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
        connect(server) as idle,
        connect(server) as arriving,
        connect(server) as late,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        assert client.get("/readyz").status_code == 200
        assert "connection" not in client.get("/livez").headers
        assert grpc_is_ready(channel)
        idle.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(65536).startswith(b"HTTP/1.1 200 ")
        arriving.sendall(b"GET /mod")
        begun = time.monotonic()
        server.process.send_signal(number)
        assert_unready_but_open(server, client)
        wait_until(lambda: not grpc_is_ready(channel))
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: any("already stopping" in line for line in server.log))
        wait_until(lambda: not listens(server))
        late.sendall(b"GET /models HTTP/1.1\r\nHost: x\r\nX-Request-ID: late.\r\n\r\n")
        assert read_all(late).startswith(b"HTTP/1.1 200 ")
        assert time.monotonic() - begun >= LINGER_SECONDS
        traced = f"traceparent: 00-{trace_id}-00f067aa0ba902b7-01"
        arriving.sendall(
            f"els HTTP/1.1\r\nHost: x\r\nX-Request-ID: slow.\r\n{traced}\r\n\r\n".encode()
        )
        answer = read_all(arriving)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer
        assert read_all(idle).count(b"HTTP/1.1") <= 1
        assert server.process.wait(20) == 0
        assert LINGER_SECONDS <= time.monotonic() - begun < 10
    log = "".join(server.log)
    assert "Traceback" not in log
    assert log.count("request_id=slow.") == log.count("request_id=late.") == 1
    assert len(collector.trace(trace_id)) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_takes_too_long_is_cut_off(folder: str, workers: str) -> None:
    options = ("--linger-seconds", "0.1", "--drain-seconds", "1.5", "--workers", workers)
    with running("--models", folder, *options) as server, connect(server) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        wait_until(lambda: server.is_ready)
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 3
        assert slow.recv(65536) == b""
    (line,) = [line for line in server.log if "cut off" in line]
    assert "cut off 1 requests" in line
    assert "LOGITSERVE_DRAIN_SECONDS" in line


@pytest.mark.parametrize("workers", ["1", "2"])
def test_as_the_first_process_of_a_container(folder: str, workers: str) -> None:
    wrapper = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    options = ("--models", folder, "--workers", workers, *QUICK)
    if subprocess.run([*wrapper, "true"], check=False, capture_output=True).returncode:
        pytest.skip("NOT TESTED: this user may not make a PID namespace")
    with running(*options, wrapper=wrapper) as server:
        (first,) = workers_of(server)
        assert server.is_ready
        first.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_a_worker_that_is_killed_is_replaced(folder: str, weights: Weights) -> None:
    with running("--models", folder, "--workers", "2", *QUICK) as server:
        for victim in workers_of(server):
            clients = BusyClients(server.url, weights["digits/2"], clients=4)
            with clients.asking() as tally:
                clients.wait_for(answered=50)
                victim.kill()
                wait_until(partial(is_replaced, server, victim))
                clients.wait_for(answered=50)
            # Each client has one request at a time, so no more than those can have been in it.
            assert len(tally.lost) <= 4
            assert not any(how[0].isdigit() for how in tally.lost), tally.lost
            assert tally.unavailable == 0
        assert server.stop() == 0
    assert len([line for line in server.log if "SIGKILL" in line]) == 2


def is_replaced(server: Server, victim: psutil.Process) -> bool:
    workers = workers_of(server)
    return len(workers) == 2 and victim.pid not in [worker.pid for worker in workers]


def test_workers_end_with_their_parent(folder: str) -> None:
    with running("--models", folder, "--workers", "2", *QUICK) as server:
        workers = workers_of(server)
        assert len(workers) == 2
        server.process.kill()
        assert psutil.wait_procs(workers, timeout=20)[1] == []
