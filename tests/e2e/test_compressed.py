"""Compressed bodies: the same answers as uncompressed, in every form, within the same limits."""

import asyncio
import gzip
import zlib
from collections.abc import Callable

import httpx
import pytest

from tests.e2e.process import Server
from tests.e2e.profiles import MAX_BODY_BYTES
from tests.forms import HTTP_FORMS, RAW, Ask, Form
from tests.tiny_models import png, random_picture

IMAGE = png(random_picture(0))


def bare(data: bytes) -> bytes:
    """Deflate without zlib's header, as .NET's DeflateStream sends it."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "X-GZip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": bare,
    "identity": bytes,
    "identity, gzip": gzip.compress,
}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("form", HTTP_FORMS, ids=str)
def test_every_form_in_every_coding(server: Server, form: Form, coding: str) -> None:
    for size in (1, 60 if form.many else 1):  # the larger ones are parsed in a thread
        images = [random_picture(seed) for seed in range(size)]
        encoded = form.encode(images)
        plain = Ask(images, fields=encoded.fields, body=encoded.body)
        fields = [*encoded.fields, ("Content-Encoding", coding)]
        packed = Ask(images, fields=fields, body=CODINGS[coding](encoded.body))
        assert form.send(server, packed).body == form.send(server, plain).body
        assert form.read(form.send(server, packed)).shape[0] == size


@pytest.mark.parametrize("coding", CODINGS)
def test_documents_and_management_too(server: Server, coding: str) -> None:
    for path, body, field in (
        ("/models/digits/preview", IMAGE, "image/png"),
        ("/models/digits/explain?budget_ms=10000", IMAGE, "image/png"),
        ("/v2/repository/index", b'{"ready": true}', "application/json"),
    ):
        plain = server.client.post(path, content=body, headers={"content-type": field})
        headers = {"content-type": field, "content-encoding": coding}
        packed = server.client.post(path, content=CODINGS[coding](body), headers=headers)
        assert (packed.status_code, packed.content) == (200, plain.content)


def test_a_body_of_the_largest_size(server: Server) -> None:
    """What it becomes is counted, not what is sent; a picture may be followed by anything."""
    headers = {"content-encoding": "gzip"}
    for size, status in ((MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413)):
        body = gzip.compress(IMAGE.ljust(size, b"\0"))
        assert server.client.post("/predict", content=body, headers=headers).status_code == status


def test_no_body_is_not_compressed(server: Server) -> None:
    headers = {"content-encoding": "gzip"}
    assert server.client.get("/livez", headers=headers).status_code == 200
    assert "empty" in server.client.post("/predict", headers=headers).json()["detail"]


def test_what_bodies_become_counts_against_the_memory_of_all(strict: Server) -> None:
    """Room for one body: of two at once that become as large as may be, one is told to wait."""
    body = gzip.compress(IMAGE.ljust(900_000, b"\0"))

    async def ask() -> list[int]:
        async with httpx.AsyncClient(base_url=strict.url, timeout=30) as client:
            headers = {"content-encoding": "gzip"}
            posts = [client.post("/predict", content=body, headers=headers) for _ in range(8)]
            return [response.status_code for response in await asyncio.gather(*posts)]

    statuses = asyncio.run(ask())
    assert 200 in statuses
    assert set(statuses) <= {200, 429}
    again = RAW.send(strict, Ask([random_picture(0)]))
    assert again.status == 200
