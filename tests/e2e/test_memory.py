"""What is too large, too deep or too many is refused in little memory, and the worker lives."""

import asyncio
import functools
import io
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.e2e.faults import PACKERS
from tests.e2e.metrics import value
from tests.e2e.problems import assert_problem
from tests.e2e.process import Server
from tests.e2e.profiles import DECODED_BYTES
from tests.e2e.sockets import connect
from tests.png_files import END, SIGNATURE, chunk
from tests.tiny_models import png, random_picture

GOOD = png(random_picture(0))
MAX_MIB = 300
SECONDS = 60
SIDE = 30_000
PERMITTED = 7000
"""Pixels of a side, with which an image has hardly fewer than may be."""
JSON = {"content-type": "application/json"}


def processes(server: Server) -> list[Path]:
    """The folders of all processes of a service."""
    parent = Path(f"/proc/{server.process.pid}")
    children = (parent / f"task/{parent.name}/children").read_text().split()
    return [parent, *(Path(f"/proc/{child}") for child in children)]


def memory(shipped: Server, field: str) -> float:
    """MiB of all processes of the service."""
    total = 0
    for process in processes(shipped):
        lines = (process / "status").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
    return total / 1024


@pytest.fixture
def small(shipped: Server) -> Iterator[None]:
    """Holds the peak of the memory against what it was before."""
    headers = {"content-type": "image/png"}
    assert shipped.client.post("/predict", content=GOOD, headers=headers).status_code == 200
    before = memory(shipped, "VmRSS")
    for process in processes(shipped):
        (process / "clear_refs").write_text("5")  # the peak begins anew
    yield
    grown = memory(shipped, "VmHWM") - before
    assert grown < MAX_MIB
    assert shipped.client.post("/predict", content=GOOD, headers=headers).status_code == 200
    assert shipped.process.poll() is None


@functools.cache
def black_png(side: int, color_type: int = 0, before: bytes = b"") -> bytes:
    """A black square, made without holding its pixels; `before` them come other chunks."""

    packer = zlib.compressobj()
    row = bytes(1 + side * {0: 1, 2: 3}[color_type])
    rows = [packer.compress(row) for _ in range(side)]
    head = struct.pack(">IIBBBBB", side, side, 8, color_type, 0, 0, 0)
    packed = b"".join([*rows, packer.flush()])
    return SIGNATURE + chunk(b"IHDR", head) + before + chunk(b"IDAT", packed) + END


def bomb(kind: str) -> bytes:
    """A picture with more pixels than are allowed, as small as its format makes it."""
    if kind == "PNG":
        return black_png(SIDE)
    # WebP has at most 16383 pixels a side; each of these is over the limit of 50 million.
    buffer = io.BytesIO()
    options: dict[str, dict[str, Any]] = {
        "TIFF": {"compression": "tiff_deflate"},
        "WEBP": {"lossless": True, "method": 0},
        "AVIF": {"speed": 10},
    }
    Image.new("1" if kind == "TIFF" else "L", (8000, 8000)).save(
        buffer, kind, **options.get(kind, {})
    )
    data = buffer.getvalue()
    if kind == "AVIF":  # that announces 16×16
        place = data.index(b"ispe") + 8
        data = data[:place] + struct.pack(">II", 16, 16) + data[place + 8 :]
    return data


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "AVIF"])
def test_a_decompression_bomb(shipped: Server, kind: str) -> None:
    data = bomb(kind)
    assert len(data) < 32 * 2**20
    headers = {"content-type": "application/octet-stream"}
    response = shipped.client.post("/predict", content=data, headers=headers)
    assert_problem(response, 413, "pixels", "LOGITSERVE_MAX_PIXELS")


@functools.cache
def a_gigabyte(coding: str) -> bytes:
    """Compressed, which takes seconds."""
    return PACKERS[coding](bytes(2**30))


@pytest.mark.drill
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("coding", PACKERS)
@pytest.mark.parametrize("path", ["/predict", "/v2/models/digits/infer", "/models/digits/preview"])
def test_a_body_that_becomes_a_gigabyte(shipped: Server, path: str, coding: str) -> None:
    """Twenty at once; what goes on being sent or unpacked beyond the limit is not looked at."""
    body = a_gigabyte(coding)

    async def ask() -> list[int]:
        async with httpx.AsyncClient(base_url=shipped.url, timeout=SECONDS) as client:
            headers = {"content-encoding": coding}
            posts = [client.post(path, content=body, headers=headers) for _ in range(20)]
            return [response.status_code for response in await asyncio.gather(*posts)]

    assert set(asyncio.run(ask())) <= {413, 429}


@pytest.mark.usefixtures("small")
def test_many_large_images_at_once(shipped: Server) -> None:
    """Those that fit into the memory together are decoded together; the others wait."""
    bodies = [black_png(PERMITTED), black_png(PERMITTED, color_type=2)] * 4

    async def ask() -> list[int]:
        async with httpx.AsyncClient(base_url=shipped.url, timeout=SECONDS) as client:
            posts = [client.post("/predict", content=body) for body in bodies]
            return [response.status_code for response in await asyncio.gather(*posts)]

    assert asyncio.run(ask()) == [200] * len(bodies)


@pytest.mark.usefixtures("small")
def test_an_image_that_would_take_too_much_memory(shipped: Server) -> None:
    transparent = black_png(PERMITTED, color_type=2, before=chunk(b"tRNS", bytes(6)))
    response = shipped.client.post("/predict", content=transparent)
    assert_problem(response, 413, str(DECODED_BYTES), "LOGITSERVE_MAX_DECODED_BYTES")


@pytest.mark.usefixtures("small")
def test_an_image_that_is_not_begun_before_its_deadline(shipped: Server) -> None:
    """It is told to come back, as one that finds the queue full."""
    body = black_png(PERMITTED, color_type=2)
    queued = functools.partial(value, shipped.url, "queue_pictures", model="digits")

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=shipped.url, timeout=SECONDS) as client:
            posts = [client.post("/predict", content=body) for _ in range(8)]
            first = [asyncio.create_task(post) for post in posts]
            while await asyncio.to_thread(queued) < 6:
                pass
            hurried = {"x-request-timeout-ms": "1000"}
            last = client.post("/predict", content=body, headers=hurried)
            return await asyncio.gather(*first, last)

    *others, late = asyncio.run(ask())
    assert [response.status_code for response in others] == [200] * 8
    assert_problem(late, 429, "1000 ms", "LOGITSERVE_MAX_DECODED_BYTES")
    assert "retry-after" in late.headers


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("path", ["/predict", "/v2/models/digits/infer"])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_hundred_megabytes(shipped: Server, path: str, *, chunked: bool) -> None:
    """The client reads the answer as it comes, and stops sending."""
    length = "transfer-encoding: chunked" if chunked else "content-length: 100000000"
    piece = bytes(2**16)
    sent = b"10000\r\n" + piece + b"\r\n" if chunked else piece
    with connect(shipped) as raw:
        raw.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n".encode())
        try:
            for _ in range(100_000_000 // len(piece)):
                raw.sendall(sent)
        except OSError:
            pass  # it has closed
        answer = raw.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"LOGITSERVE_MAX_BODY_BYTES" in answer


def parts(count: int) -> httpx.Request:
    return httpx.Request("POST", "http://x", files=[("file", (f"{i}", b"x")) for i in range(count)])


@pytest.mark.usefixtures("small")
def test_ten_thousand_parts(shipped: Server) -> None:
    request = parts(10_000)
    headers = {"content-type": request.headers["content-type"]}
    response = shipped.client.post("/predict", content=request.read(), headers=headers)
    assert_problem(response, 413, "1024", "LOGITSERVE_MAX_PICTURES")


@pytest.mark.usefixtures("small")
def test_a_part_with_a_head_that_is_too_large(shipped: Server) -> None:
    head = b'content-disposition: form-data; name="file"; filename="' + b"x" * 10**7 + b'"'
    body = b"--b\r\n" + head + b"\r\n\r\nx\r\n--b--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=b"}
    response = shipped.client.post("/predict", content=body, headers=headers)
    assert_problem(response, 400, "form")


PLENTY = 32 * 2**20
GROWING: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "brackets": (lambda: b"[" * 200_000, 400, "deeper than the limit of 32"),
    "more brackets": (lambda: b"[" * PLENTY, 413, "LOGITSERVE_MAX_JSON_VALUES"),
    "quotes": (lambda: b"[[" * 20 + b'"' * (PLENTY - 99), 413, "MAX_PICTURES"),
    "zeros": (lambda: b'{"pixels":[' + b"0," * (PLENTY // 2 - 20) + b"0]}", 413, "MAX_JSON_VALUES"),
    "lists": (lambda: b"[" + b"[]," * (PLENTY // 3 - 9) + b"[]]", 413, "MAX_JSON_VALUES"),
    "objects": (lambda: b"[" + b'{"":0},' * (PLENTY // 7 - 9) + b"0]", 413, "MAX_PICTURES"),
    "as many as may be": (lambda: b"[" + b'{"":0},' * 4500 + b"0," * 10**6 + b"0]", 422, ""),
    "a long name": (lambda: b'{"' + b"a" * (PLENTY - 9) + b'":0}', 422, ""),
    "base64": (
        lambda: b'{"images":["' + b"A" * (PLENTY - 16) + b'"]}',
        422,
        "not a supported image",
    ),
    "digits": (lambda: b'{"pixels":[[' + b"9" * 10**6 + b"]]}", 422, ""),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("path", "name"),
    [
        *(("/predict", name) for name in GROWING),
        *(("/v2/models/digits/infer", name) for name in ("objects", "as many as may be")),
        *(("/v1/models/digits:predict", name) for name in ("objects", "as many as may be")),
    ],
)
def test_json_that_would_grow(shipped: Server, path: str, name: str) -> None:
    make, status, word = GROWING[name]
    response = shipped.client.post(path, content=make(), headers=JSON)
    if status == 413 or word.endswith("DEPTH"):
        assert_problem(response, status, word)
    else:
        assert response.status_code in {400, 422}, response.text[:500]
    assert len(response.content) < 5000


@pytest.mark.usefixtures("small")
def test_many_large_bodies_at_once(shipped: Server) -> None:
    """Some are answered and the others told to come back, until all are answered."""
    body = b'{"images":["' + b"A" * (PLENTY - 16) + b'"]}'

    async def ask() -> list[tuple[int, bool]]:
        async with httpx.AsyncClient(base_url=shipped.url, timeout=SECONDS) as client:

            async def one() -> tuple[int, bool]:
                try:
                    response = await client.post("/predict", content=body, headers=JSON)
                except (httpx.WriteError, httpx.ReadError):
                    return 429, True  # it was closed while it sent
                return response.status_code, "retry-after" in response.headers

            return list(await asyncio.gather(*(one() for _ in range(20))))

    outcomes = asyncio.run(ask())
    assert {status for status, _ in outcomes} <= {422, 429}, outcomes
    assert (422, False) in outcomes
    assert all(told for status, told in outcomes if status == 429)


def test_what_was_held_is_given_back(shipped: Server) -> None:
    """More bytes than may be held at once, one body after the other."""
    body = b'{"images":["' + b"A" * (PLENTY - 16) + b'"]}'
    ending = time.monotonic() + SECONDS
    for _ in range(5):
        response = shipped.client.post("/predict", content=body, headers=JSON)
        assert response.status_code == 422
        assert time.monotonic() < ending
