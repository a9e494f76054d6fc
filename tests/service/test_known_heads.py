"""Heads that were read before."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Scope

from logitserve_service.http.known_heads import MAX_HEAD_BYTES, MAX_HEADS, KnownHeads


def request(length: int = 3, *fields: str) -> bytes:
    lines = ["POST /predict HTTP/1.1", *fields, f"Content-Length: {length}", "\r\n"]
    return "\r\n".join(lines).encode() + b"x" * length


def scope_of(data: bytes) -> Scope:
    """What a parser makes of a request."""
    _, *lines = data.partition(b"\r\n\r\n")[0].split(b"\r\n")
    fields = [line.lower().partition(b": ") for line in lines]
    return {
        "method": "POST",
        "http_version": "1.1",
        "path": "/predict",
        "raw_path": b"/predict",
        "query_string": b"",
        "headers": [(name, value) for name, _, value in fields],
        "client": ("127.0.0.1", 1),
    }


def remembering(*requests: bytes) -> KnownHeads:
    heads = KnownHeads()
    for data in requests:
        heads.remember(data, scope_of(data))
    return heads


def test_the_same_head_is_found_with_another_body() -> None:
    data = request(3, "Host: x")
    other = data[:-3] + b"abc"
    found = remembering(data).find(other)
    assert found is not None
    known, body = found
    assert body == b"abc"
    scope = scope_of(data)
    del scope["client"]  # it belongs to a connection, not to a head
    assert {**known.said, "headers": known.headers} == scope
    assert known.fields == dict(known.headers)


@pytest.mark.parametrize(
    "changed",
    [
        request(4),
        request(3, "Host: y"),
        request(3, "Host: x") + b"P",
        request(3, "Host: x")[:-1],
        request(3, "Host: x").replace(b"POST", b"post"),
        request(3, "Host: x") * 2,
        b"\r\n" + request(3, "Host: x"),
        b"\r\n\r\n",
        b"",
    ],
)
def test_what_differs_in_a_byte_is_not_found(changed: bytes) -> None:
    assert remembering(request(3, "Host: x")).find(changed) is None


@pytest.mark.parametrize(
    "data",
    [
        request(3, "X-Request-ID: 1"),
        request(3, f"traceparent: 00-{'a' * 32}-{'b' * 16}-01"),
        request(3, f"Cookie: {'c' * MAX_HEAD_BYTES}"),
        request() + request(),  # two requests
        request() + b"\r\n",
    ],
)
def test_what_does_not_come_again_is_not_remembered(data: bytes) -> None:
    assert not len(remembering(data))


def test_blank_lines_are_no_request() -> None:
    heads = KnownHeads()
    heads.remember(b"\r\n\r\n", scope_of(request(0)))
    assert heads.find(b"\r\n\r\n") is None


def test_the_memory_is_bounded() -> None:
    numbers = count()
    heads = KnownHeads()
    for _ in range(3 * MAX_HEADS):
        data = request(3, f"Host: {next(numbers)}")
        heads.remember(data, scope_of(data))
        assert heads.find(data) is not None
        assert len(heads) <= MAX_HEADS


@given(st.binary(max_size=300), st.integers(0, 300))
def test_only_whole_requests_are_found(body: bytes, length: int) -> None:
    data = request(length)
    head = data[: len(data) - length]
    found = remembering(data).find(head + body)
    assert (found is not None) == (len(body) == length)
    if found is not None:
        assert found[1] == body
