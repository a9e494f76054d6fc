"""What is overridden or used of uvicorn: this fails when uvicorn changes it."""

import hashlib
import inspect

import pytest
import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.protocols.utils import get_remote_addr, is_ssl
from uvicorn.server import ServerState

from logitserve_service.http.problems import STATUS
from logitserve_service.server.worker import TICK_SECONDS, Server


@pytest.mark.parametrize("name", ["startup", "on_tick", "handle_exit", "shutdown"])
def test_overridden_methods_have_the_same_signature(name: str) -> None:
    ours, theirs = getattr(Server, name), getattr(uvicorn.Server, name)
    assert ours is not theirs
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)
    found, expected = inspect.signature(ours), inspect.signature(theirs)
    assert list(found.parameters) == list(expected.parameters)
    assert [each.default for each in found.parameters.values()] == [
        each.default for each in expected.parameters.values()
    ]


SOURCES = {
    uvicorn.Server._serve: "4575b7a50adf",
    uvicorn.Server.main_loop: "afccb353a119",
    uvicorn.Server.on_tick: "60ea49b06ccf",
    uvicorn.Server.startup: "2aa1d70a244b",
    uvicorn.Server.shutdown: "9b33c5056299",
    uvicorn.Server.handle_exit: "553276efa26e",
    uvicorn.Server.capture_signals: "e1bbcd4770d1",
    ServerState.__init__: "8daf3a9b4e4e",
}


@pytest.mark.parametrize(("function", "digest"), SOURCES.items())
def test_what_surrounds_the_overridden_methods_is_unchanged(function: object, digest: str) -> None:
    source = inspect.getsource(function)  # type: ignore[arg-type]
    assert hashlib.sha256(source.encode()).hexdigest()[:12] == digest, source


def test_ticks_are_as_often_as_the_sweep_takes_them_to_be() -> None:
    assert f"asyncio.sleep({TICK_SECONDS})" in inspect.getsource(uvicorn.Server.main_loop)


def test_status_lines() -> None:
    assert STATUS_LINE[200] == b"HTTP/1.1 200 OK\r\n"
    assert {int(status) for status in STATUS.values()} | {404, 500} <= STATUS_LINE.keys()


def test_proxies() -> None:
    async def app(*_: object) -> None: ...

    hosts = ProxyHeadersMiddleware(app, "10.0.0.0/8, 127.0.0.1").trusted_hosts
    assert "10.1.2.3" in hosts
    assert None not in hosts
    assert hosts.get_trusted_client_address("1.2.3.4, 10.0.0.9")[0] == "1.2.3.4"


def test_helpers_read_the_transport() -> None:
    class Transport:
        def get_extra_info(self, name: str) -> object:
            return {"peername": ("1.2.3.4", 5), "sslcontext": object()}.get(name)

    assert get_remote_addr(Transport()) == ("1.2.3.4", 5)  # type: ignore[arg-type]
    assert is_ssl(Transport())  # type: ignore[arg-type]
