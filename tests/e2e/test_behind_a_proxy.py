"""What a proxy in front changes: the caller's address, the prefix of the paths, the version."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import grpc
import httpx
import pytest

from logitserve_service.api import inference_pb2 as pb
from tests.e2e.browser import Visit, launched
from tests.e2e.conftest import Weights
from tests.e2e.metrics import wait_until
from tests.e2e.process import Server, refused, running
from tests.e2e.sockets import connect, read_all
from tests.forms import HTTP_FORMS, Ask, Form
from tests.tiny_models import random_picture

CALLER = "203.0.113.9"
PREFIX = "/shop/digits"


@pytest.fixture(scope="module")
def server(models: tuple[Path, Weights]) -> Iterator[Server]:
    """Behind proxies of 127.0.0.0 to 127.0.0.3, below a prefix, on IPv4 and IPv6."""
    options = (
        *("--models", str(models[0]), "--grpc-port", "0", "--host", "::"),
        *("--access-log", "true", "--log-format", "json", "--root-path", f"{PREFIX}/"),
        *("--forwarded-allow-ips", "127.0.0.0/30, 192.0.2.1"),
    )
    with running(*options) as started:
        started.url = started.url.replace("[::]", "127.0.0.1")
        yield started


def client_of(server: Server, request_id: str) -> str:
    """Whom the access log names as the client of a request."""
    found: list[str] = []

    def is_logged() -> bool:
        lines = [json.loads(line) for line in list(server.log)]
        found[:] = [line["client"] for line in lines if line.get("request_id") == request_id]
        return bool(found)

    wait_until(is_logged)
    return found[0]


@pytest.mark.parametrize(
    ("proxy", "forwarded", "client"),
    [
        ("127.0.0.2", CALLER, CALLER),
        ("127.0.0.2", f"{CALLER}:4711", CALLER),
        ("127.0.0.2", f"198.51.100.7, {CALLER}, 192.0.2.1", CALLER),
        ("127.0.0.2", "2001:db8::9", "2001:db8::9"),
        ("127.0.0.2", "[2001:db8::9]:4711", "2001:db8::9"),
        ("127.0.0.2", "", "127.0.0.2"),
        ("127.0.0.4", CALLER, "127.0.0.4"),
    ],
)
def test_the_callers_address_is_that_which_a_trusted_proxy_names(
    server: Server, proxy: str, forwarded: str, client: str
) -> None:
    transport = httpx.HTTPTransport(local_address=proxy)
    with httpx.Client(base_url=server.url, transport=transport) as http:
        answer = http.get("/models", headers={"x-forwarded-for": forwarded})
    assert client_of(server, answer.headers["x-request-id"]) == client


@pytest.mark.parametrize(
    ("metadata", "client"), [((), "127.0.0.1"), ((("x-forwarded-for", CALLER),), CALLER)]
)
def test_over_grpc_too(server: Server, metadata: tuple[tuple[str, str], ...], client: str) -> None:
    request_id = f"grpc-{client}"
    with grpc.insecure_channel(server.grpc_address) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ServerMetadata",
            request_serializer=pb.ServerMetadataRequest.SerializeToString,
            response_deserializer=pb.ServerMetadataResponse.FromString,
        )
        call(pb.ServerMetadataRequest(), metadata=(*metadata, ("x-request-id", request_id)))
    assert client_of(server, request_id) == client


@pytest.mark.parametrize("wrong", ["proxy.example", "10.0.0.1/8", "10.0.0.0/33", "*, 10.0.0.1"])
def test_what_is_no_address_of_a_proxy(wrong: str) -> None:
    printed = refused("--forwarded-allow-ips", wrong)
    assert "--forwarded-allow-ips" in printed


@pytest.mark.parametrize("wrong", ["https://example.org/digits", "/digits?x", "/a b"])
def test_what_is_no_prefix(wrong: str) -> None:
    assert "--root-path" in refused("--root-path", wrong)


@pytest.mark.parametrize("form", HTTP_FORMS, ids=str)
def test_every_form_is_reached_with_the_prefix_and_without(server: Server, form: Form) -> None:
    ask = Ask([random_picture(0)])
    expected = form.send(server, ask)
    assert expected.status == 200
    below = Server(server.process, server.url + PREFIX)
    assert form.send(below, ask).body == expected.body
    below.client.close()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/livez", 200),
        ("/models/digits/versions/2", 200),
        ("/v2/models/digits", 200),
        ("/v1/models/digits", 200),
        ("/metrics", 200),
        ("/docs", 200),
        ("/web/page.js", 200),
        ("/static-offline-docs/swagger-ui.css", 200),
        ("/nothing", 404),
    ],
)
def test_so_is_every_route(server: Server, path: str, status: int) -> None:
    for prefix in ("", PREFIX):
        assert server.client.get(prefix + path).status_code == status
    assert server.client.get(f"{PREFIX}{PREFIX}{path}").status_code == 404
    assert server.client.get(f"{PREFIX}s{path}").status_code == 404


def test_documents_lead_back_below_the_prefix(server: Server) -> None:
    for path in ("/models/doubtful", "/models/doubtful/versions/1"):
        for prefix in ("", PREFIX):
            url = f"{server.url}{prefix}{path}"
            report = urljoin(url, httpx.get(url).json()["report"])
            assert report == f"{server.url}{prefix}/models/doubtful/versions/1/report"
            assert httpx.get(report).text == ("<!doctype html><title>A report</title>")
    servers = server.client.get(f"{PREFIX}/openapi.json").json()["servers"]
    assert servers[0] == {"url": PREFIX}


def test_the_page_and_the_documentation_work_below_the_prefix(server: Server) -> None:
    with launched() as browser:
        visit = Visit(browser.new_page(), f"{server.url}{PREFIX}")
        assert visit.page.url == f"{server.url}{PREFIX}/"
        visit.draw(1)
        visit.page.wait_for_function("document.querySelector('#label').textContent !== '–'")
        page = visit.page
        page.goto(f"{server.url}{PREFIX}/docs")
        operation = page.locator("#operations-probes-live")
        operation.locator("button").first.click()
        operation.get_by_text("Try it out").click()
        with page.expect_response("**/livez") as asked:
            operation.get_by_text("Execute").click()
        assert asked.value.url == f"{server.url}{PREFIX}/livez"
        assert asked.value.status == 200
        assert visit.complaints == []


def test_http_2_by_prior_knowledge_is_refused_in_words(server: Server) -> None:
    """The preface of RFC 9113 and the SETTINGS frame of curl, in one packet and in bytes."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000012040000000000000300000064")
    for size in (len(preface), 1):
        with connect(server) as connection:
            for start in range(0, len(preface), size):
                try:
                    connection.sendall(preface[start : start + size])
                except OSError:
                    break  # it has been refused
            answer = read_all(connection)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"connection: close" in head
        problem = json.loads(body)
        assert "this is not HTTP/1.1: HTTP/2 is not supported" in problem["detail"]
        assert "nginx" in problem["detail"]


def test_haproxys_own_health_check_is_answered(server: Server) -> None:
    """`option httpchk` sends OPTIONS in HTTP/1.0 unless it is told otherwise."""
    for path, status in (("/readyz", b"200"), ("/models", b"405")):
        with connect(server) as connection:
            connection.sendall(b"OPTIONS %b HTTP/1.0\r\n\r\n" % path.encode())
            assert read_all(connection).startswith(b"HTTP/1.1 " + status)
