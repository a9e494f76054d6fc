"""Stopping the service, and replacing workers that die, while clients ask."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from logitserve_service.server.grpc import inference_pb2 as pb
from tests.e2e.busy_clients import BusyClients
from tests.e2e.conftest import Weights
from tests.e2e.process import Server, running
from tests.e2e.test_grpc import grpc_address

QUICK = ("--linger-seconds", "0.3", "--drain-seconds", "6")
REPLACED_SECONDS = 10  # the goal is 2 on a quiet machine


@pytest.fixture
def folder(models: tuple[Path, Weights]) -> str:
    return str(models[0])


def connect(server: Server) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.settimeout(20)
    return connection


def workers_of(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def wait_until(happened: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ready(server: Server) -> bool:
    try:
        return httpx.get(f"{server.url}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while part := connection.recv(65536):
        received += part
    return received


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stop_loses_no_request(folder: str, weights: Weights, workers: str) -> None:
    with running("--models", folder, "--workers", workers, *QUICK) as server:
        clients = BusyClients(server.url, weights["digits/2"], clients=8)
        with clients.asking() as tally:
            clients.wait_for(answered=100)
            assert server.stop() == 0
    assert tally.lost == []
    assert tally.closing >= 8
    assert tally.refused == 8
    assert "Traceback" not in "".join(server.log)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_unready_at_once_but_open(folder: str, workers: str) -> None:
    options = ("--linger-seconds", "2", "--drain-seconds", "10")
    with running("--models", folder, "--workers", workers, *options) as server:
        with httpx.Client(base_url=server.url, timeout=20) as client:
            assert client.get("/readyz").status_code == 200
            assert "connection" not in client.get("/livez").headers
            begun = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
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
        assert server.process.wait(20) == 0
        assert 2 <= time.monotonic() - begun < 10


def test_an_idle_connection_is_closed_at_the_end(folder: str) -> None:
    with running("--models", folder, *QUICK) as server, connect(server) as idle:
        idle.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b'{"status":"ok"}'):
            answer += idle.recv(65536)
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert idle.recv(65536) == b""
        assert time.monotonic() - begun >= 0.3
        assert server.process.wait(20) == 0


def test_a_request_that_is_arriving_is_answered(folder: str) -> None:
    with running("--models", folder, *QUICK) as server, connect(server) as slow:
        slow.sendall(b"GET /liv")
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not ready(server))
        slow.sendall(b"ez HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = read_all(slow)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer
        assert server.process.wait(20) == 0


def listens(server: Server) -> bool:
    connections = psutil.Process(server.process.pid).net_connections()
    return any(connection.status == psutil.CONN_LISTEN for connection in connections)


def test_who_connected_before_the_close_may_still_ask(folder: str) -> None:
    with running("--models", folder, *QUICK) as server, connect(server) as late:
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not listens(server))
        late.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_all(late).startswith(b"HTTP/1.1 200")
        assert server.process.wait(20) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_takes_too_long_is_cut_off(folder: str, workers: str) -> None:
    options = ("--linger-seconds", "0.1", "--drain-seconds", "1.5", "--workers", workers)
    with running("--models", folder, *options) as server, connect(server) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        wait_until(lambda: ready(server))
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 3
        assert slow.recv(65536) == b""
    (line,) = [line for line in server.log if "cut off" in line]
    assert "cut off 1 requests" in line
    assert "LOGITSERVE_DRAIN_SECONDS" in line


def test_a_second_signal_changes_nothing(folder: str) -> None:
    with running("--models", folder, *QUICK) as server, connect(server) as slow:
        slow.sendall(b"GET /liv")
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not ready(server))
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: any("already stopping" in line for line in server.log))
        slow.sendall(b"ez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_all(slow).startswith(b"HTTP/1.1 200")
        assert server.process.wait(20) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_as_the_first_process_of_a_container(folder: str, workers: str) -> None:
    wrapper = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    options = ("--models", folder, "--workers", workers, *QUICK)
    if subprocess.run([*wrapper, "true"], check=False, capture_output=True).returncode:
        pytest.skip("NOT TESTED: this user may not make a PID namespace")
    with running(*options, wrapper=wrapper) as server:
        (first,) = workers_of(server)
        assert ready(server)
        first.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_a_worker_that_is_killed_is_replaced(folder: str, weights: Weights) -> None:
    with running("--models", folder, "--workers", "2", *QUICK) as server:
        for victim in workers_of(server):
            clients = BusyClients(server.url, weights["digits/2"], clients=4)
            with clients.asking() as tally:
                clients.wait_for(answered=50)
                victim.kill()
                wait_until(partial(is_replaced, server, victim), REPLACED_SECONDS)
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


def test_grpc_is_unready_at_once_and_ends_too(folder: str) -> None:
    options = ("--grpc-port", "0", "--linger-seconds", "2", "--drain-seconds", "10")
    with running("--models", folder, *options) as server:
        with grpc.insecure_channel(grpc_address(server)) as channel:
            asked = channel.unary_unary(
                "/inference.GRPCInferenceService/ServerReady",
                request_serializer=pb.ServerReadyRequest.SerializeToString,
                response_deserializer=pb.ServerReadyResponse.FromString,
            )
            assert asked(pb.ServerReadyRequest(), timeout=20).ready
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: not asked(pb.ServerReadyRequest(), timeout=20).ready)
            assert server.process.poll() is None
        assert server.process.wait(20) == 0
    assert "Traceback" not in "".join(server.log)
