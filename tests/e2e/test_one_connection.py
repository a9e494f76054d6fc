"""Requests of all forms on one connection: in order, in pieces, and in ways that are unusual."""

import re
import socket

import pytest

from tests.e2e.problems import PROBLEM_JSON
from tests.e2e.process import Server
from tests.e2e.sockets import begun, connect, pieces, read_all, read_response, request
from tests.forms import HTTP_FORMS, Ask, Form
from tests.tiny_models import png, random_picture

CLOSE = ("Connection", "close")
each_form = pytest.mark.parametrize("form", HTTP_FORMS, ids=str)


def bodies_of(answer: bytes) -> list[bytes]:
    """The bodies of responses, one behind the other."""
    bodies = []
    while answer:
        head, _, rest = answer.partition(b"\r\n\r\n")
        match = re.search(rb"\r\ncontent-length: (\d+)", head)
        assert match is not None
        assert head.startswith(b"HTTP/1.1 200 ")
        bodies.append(rest[: int(match[1])])
        answer = rest[int(match[1]) :]
    return bodies


@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_pipelined_requests_are_answered_in_their_order(server: Server, size: int) -> None:
    asks = [Ask([random_picture(seed)]) for seed, _ in enumerate(HTTP_FORMS)]
    asks[-1] = Ask(asks[-1].images, fields=[CLOSE])
    forms = sorted(HTTP_FORMS, key=lambda form: len(form.encode(asks[0].images).body))
    used = forms[:5] if size == 1 else forms
    asks = asks[-len(used) :]
    sent = b"".join(b"".join(request(f, ask)) for f, ask in zip(used, asks, strict=True))
    with connect(server) as connection:
        for piece in pieces(sent, size):
            connection.sendall(piece)
        received = read_all(connection)
    expected = [f.send(server, Ask(ask.images)).body for f, ask in zip(used, asks, strict=True)]
    assert bodies_of(received) == expected
    assert received.count(b"connection: close") == 1


@each_form
def test_requests_with_the_same_head_each_get_their_own_answer(server: Server, form: Form) -> None:
    # Not compressed, files are equally long, and so are their heads.
    images = [png(random_picture(seed), compress_level=0) for seed in range(3)]
    asks = [Ask([image if form.files else random_picture(n)]) for n, image in enumerate(images)]
    expected = [form.send(server, ask).body for ask in asks]
    with connect(server) as connection, connection.makefile("rb") as answers:
        for ask, right in zip(asks, expected, strict=True):
            for noise in (b"", b"\r\n\r\n"):  # RFC 9112, section 2.2
                connection.sendall(noise + b"".join(request(form, ask)))
                assert read_response(answers) == (200, right)
        connection.shutdown(socket.SHUT_WR)
        assert answers.read() == b""


@each_form
def test_what_is_unusual_is_answered_too(server: Server, form: Form) -> None:
    image = random_picture(0)
    expected = form.send(server, Ask([image])).body
    head, body = request(form, Ask([image], fields=[CLOSE]))
    length = re.search(rb"(?<=\r\n)Content-Length: \d+", head)
    assert length is not None
    in_chunks = head.replace(length[0], b"Transfer-Encoding: chunked")
    for sent in (
        head.replace(b"HTTP/1.1", b"HTTP/1.0") + body,
        head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n") + body,
        head.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n") + body,
        in_chunks + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
    ):
        with connect(server) as connection:
            connection.sendall(sent)
            answer = read_all(connection).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 "), sent
        assert answer.endswith(expected)


@each_form
def test_a_client_that_leaves_hurts_nobody(server: Server, form: Form) -> None:
    ask = Ask([random_picture(0)])
    for _ in range(5):
        with connect(server) as leaving:
            leaving.sendall(b"".join(request(form, ask)) * 3)
        begun(server, form, ask).close()
    assert form.send(server, ask).status == 200


@each_form
def test_an_answer_comes_before_the_problem_of_the_next(server: Server, form: Form) -> None:
    ask = Ask([random_picture(0)])
    with connect(server) as connection:
        connection.sendall(b"".join(request(form, ask)) + b"nonsense\r\n\r\n")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")


@each_form
@pytest.mark.parametrize(
    ("profile_name", "size", "status"), [("locked", 100_000_000, 401), ("server", 20_000_000, 413)]
)
def test_an_unwanted_body_is_not_read(
    request_server: Server, form: Form, size: int, status: int
) -> None:
    """It is announced; the answer comes, and the connection ends, before it is sent."""
    head, _ = request(form, Ask([random_picture(0)]), length=size)
    with connect(request_server) as connection:
        connection.sendall(head)
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"connection: close" in answer
        assert f"content-type: {PROBLEM_JSON}".encode() in answer
        read_all(connection)


@pytest.fixture
def request_server(profile_name: str, server: Server, locked: Server) -> Server:
    return locked if profile_name == "locked" else server
