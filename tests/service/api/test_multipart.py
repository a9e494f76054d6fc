"""`multipart/form-data` → images; a form that is not whole gives none."""

import contextlib
import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitserve.inference.rendering import OutputOptions
from logitserve_service.api.call import Content, Limits
from logitserve_service.api.predict import read_form as read
from logitserve_service.errors import (
    TooManyImagesError,
    UnreadableRequestError,
    UnusableRequestError,
)
from tests.service.api.codec_helpers import CARD, LIMITS, content

FIELDS = {b"content-type": b"multipart/form-data; boundary=xyz"}
HEAD = b'Content-Disposition: form-data; name="file"; filename="a.png"\r\n'


def part(data: bytes, head: bytes = HEAD) -> bytes:
    return b"--xyz\r\n" + head + b"\r\n" + data + b"\r\n"


def form(*parts: bytes) -> Content:
    return content(b"".join(parts) + b"--xyz--\r\n", fields=FIELDS)


def images(request: Content, limits: Limits = LIMITS) -> object:
    return read(request, CARD, limits).inputs


@given(st.lists(st.binary(max_size=200) | st.just(b"\r\n--xy"), min_size=1, max_size=5))
def test_httpx_round_trip(files: list[bytes]) -> None:
    sent = httpx.Request("POST", "http://x", files=[("file", data) for data in files])
    fields = {b"content-type": sent.headers["content-type"].encode()}
    assert images(content(sent.read(), fields=fields)) == files


@pytest.mark.parametrize(
    "head",
    [
        HEAD,
        HEAD.lower(),
        b"Content-Type: image/png\r\n" + HEAD,
        b'Content-Disposition: form-data; name=file; filename=a.png\r\nX-Other: "\r\n',
        b'Content-Disposition: form-data; name="file"; filename="\xc3\xa4\\".png"\r\n',
        b'Content-Disposition: form-data; name="file"; filename=""\r\n',
        b"Content-Disposition: form-data; name=file; filename*=UTF-8''a.png\r\n",
        b'Content-Disposition: form-data; name="file"\r\nContent-Type: image/png\r\n',
        b"content-type: Application/Octet-Stream\r\n" + HEAD.replace(b'; filename="a.png"', b""),
    ],
)
def test_heads_of_a_part(head: bytes) -> None:
    assert images(form(part(b"1", head), part(b"2", head))) == [b"1", b"2"]


def test_a_part_in_base64_is_decoded() -> None:
    in_base64 = HEAD + b"Content-Transfer-Encoding: BASE64\r\n"
    binary = HEAD + b"Content-Transfer-Encoding: binary\r\n"
    request = form(part(b"MTIz\r\nNA==", in_base64), part(b"MTIz", binary), part(b"MTIz"))
    assert images(request) == [b"1234", b"MTIz", b"MTIz"]
    with pytest.raises(UnusableRequestError, match="image 1 of the form is not base64"):
        images(form(part(b"MTIz"), part(b"*", in_base64)))


def test_preamble_epilogue_and_quoted_boundary() -> None:
    body = b"ignored\r\n" + form(part(b"1")).body + b"ignored --xyz\r\n"
    fields = {b"content-type": b'multipart/form-data; charset=utf-8; boundary="xyz"'}
    call = read(content(body, fields=fields, query=b"top_k=2"), CARD, LIMITS)
    assert call.inputs == [b"1"]
    assert call.options == OutputOptions(top_k=2)


WHOLE = form(part(b"first"), part(b"second")).body


@given(st.integers(0, len(WHOLE) - 3))
def test_a_form_that_is_cut_anywhere_gives_no_image(size: int) -> None:
    with pytest.raises(UnreadableRequestError, match="the form cannot be read"):
        images(content(WHOLE[:size], fields=FIELDS))


@given(st.binary(max_size=60) | st.lists(st.sampled_from([b"--xyz", b"\r\n", b"--", HEAD, b"a"])))
def test_any_bytes(body: bytes | list[bytes]) -> None:
    body = body if isinstance(body, bytes) else b"".join(body)
    with contextlib.suppress(UnreadableRequestError, UnusableRequestError):
        images(content(body, fields=FIELDS))


@pytest.mark.parametrize(
    "content_type",
    [b"multipart/form-data", b"multipart/form-data; boundary=", b'multipart/form-data; boundary="']
    + [b"multipart/form-data; boundary=" + other for other in (b"zyx", b"\xff", b"x" * 2000)],
)
def test_another_boundary_or_none(content_type: bytes) -> None:
    with pytest.raises(UnreadableRequestError):
        images(content(WHOLE, fields={b"content-type": content_type}))


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"Content-Type: image/png\r\n",
        b"Content-Disposition: attachment; name=file; filename=a\r\n",
        b"Content-Disposition: form-data; filename=a\r\n",
        b"no header\r\n",
        HEAD + b" continued\r\n",
        HEAD + b"Content-Length: 7\r\n",
        HEAD + b"X: " + b"x" * 1025 + b"\r\n",
        HEAD + b"X: y\r\n" * 8,
        HEAD + b"X: \xff\r\n",
    ],
)
def test_a_malformed_part(head: bytes) -> None:
    with pytest.raises(UnreadableRequestError):
        images(form(part(b"1"), part(b"2", head)))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([], "no field 'file'"),
        ([part(b"1", HEAD.replace(b'"file"', b'"files"'))], "'files'; did you mean 'file'"),
        ([part(b"1", HEAD.replace(b'"file"', b'"picture"'))], "'picture'.*known: file"),
        ([part(b"1", HEAD.replace(b'"file"', b'""'))], "''"),
        ([part(b"1"), part(b"2", HEAD.partition(b"; filename")[0] + b"\r\n")], "not a file"),
    ],
)
def test_other_fields(parts: list[bytes], words: str) -> None:
    with pytest.raises(UnusableRequestError, match=words):
        images(form(*parts))


def test_many_images_and_one_more() -> None:
    limits = Limits(images=1024, json_values=1)
    begun = time.process_time()
    assert images(form(*[part(b"1")] * 1024), limits) == [b"1"] * 1024
    with pytest.raises(TooManyImagesError, match="1024"):
        images(form(*[part(b"1")] * 300_000), limits)
    assert time.process_time() - begun < 1
