"""The requests of a soak, as bytes on the wire."""

import base64
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from logitserve_training import drawings
from tests.tiny_models import encode

BOUNDARY = "soak"
PNG, JPEG = "image/png", "image/jpeg"
PICTURES = 20
"""Different ones of each kind."""

OK = frozenset({200})
REFUSED = frozenset({422})


@dataclass(frozen=True, slots=True)
class Request:
    """One request."""

    name: str
    wire: bytes
    expected: frozenset[int] = OK
    leaves: bool = False
    """Whether the client goes away without waiting for the answer."""
    cut: int = 0
    """Bytes at the end that are never sent."""

    @property
    def sent(self) -> int:
        """Bytes that are sent."""
        return len(self.wire) - self.cut


def mixed(seed: int) -> Iterator[Request]:
    """Requests without end."""
    chance = random.Random(seed)
    kinds, weights = zip(*MIX.items(), strict=True)
    while True:
        yield made(chance.choices(kinds, weights)[0], chance.randrange(PICTURES))


@cache
def made(kind: Callable[[int], Request], number: int) -> Request:
    """The request of that kind and number; the same whenever it is asked for."""
    return kind(number)


def prepare() -> None:
    """Make every request that may come, so that making them does not hold up the clients."""
    for kind in MIX:
        for number in range(PICTURES):
            made(kind, number)


def png(number: int) -> Request:
    return _post("png", PNG, _drawn(number, 28))


def jpeg(number: int) -> Request:
    return _post("jpeg", JPEG, _snapshot(number))


def photograph(number: int) -> Request:
    return _post("photograph", JPEG, _drawn(number, 800 + 40 * number, "JPEG"))


def form(number: int) -> Request:
    pictures = [_drawn(number + each, 28) for each in range(1 + 3 * number)]
    body = b"".join(_part(each) for each in pictures) + f"--{BOUNDARY}--\r\n".encode()
    return _post("form", f"multipart/form-data; boundary={BOUNDARY}", body)


def encoded(number: int) -> Request:
    pictures = [_drawn(number, 28), _snapshot(number)]
    return _json("encoded", {"images": [base64.b64encode(each).decode() for each in pictures]})


def pixels(number: int) -> Request:
    return _json("pixels", {"pixels": _array(number).tolist()})


def binary(number: int) -> Request:
    picture = _snapshot(number)
    return _v2("binary", "BYTES", [1], len(picture).to_bytes(4, "little") + picture)


def tensor(number: int) -> Request:
    """Of many sizes, so that onnxruntime's memory is stirred."""
    count = 1 + 5 * number
    return _v2("tensor", "UINT8", [count, 28, 28, 1], _array(number).tobytes() * count)


def scenes(number: int) -> Request:
    return _post("scenes", JPEG, _snapshot(number), path="/models/scenes/predict")


def broken(number: int) -> Request:
    return _post("broken", PNG, _drawn(number, 28)[: -20 - number], expected=REFUSED)


def odd(number: int) -> Request:
    inks = Image.new("CMYK", (300, 20 + number), (0, 90, number, 3))
    return _post("odd", JPEG, encode(inks, "JPEG"))


def leaves(number: int) -> Request:
    return _post("leaves", JPEG, _snapshot(number), leaves=True)


def leaves_midway(number: int) -> Request:
    picture = _snapshot(number)
    return _post("leaves midway", JPEG, picture, leaves=True, cut=len(picture) // 2)


MIX = {
    png: 40,
    jpeg: 15,
    photograph: 2,
    form: 6,
    encoded: 8,
    pixels: 4,
    binary: 8,
    tensor: 8,
    scenes: 3,
    broken: 3,
    odd: 1,
    leaves: 1,
    leaves_midway: 1,
}
"""How often each kind comes, in parts of a hundred."""


def _drawn(number: int, side: int, format_name: str = "PNG") -> bytes:
    paper = drawings.Paper(side, side, drawings.SHEET.paper, drawings.SHEET.ink)
    return encode(drawings.draw(number % 10, seed=number, paper=paper), format_name)


def _snapshot(number: int) -> bytes:
    return _drawn(number, 96 + 8 * number, "JPEG")


def _array(number: int) -> npt.NDArray[np.uint8]:
    paper = drawings.Paper(28, 28, (0, 0, 0), (255, 255, 255))
    return np.asarray(drawings.draw(number % 10, seed=number, paper=paper).convert("L"))


def _part(picture: bytes) -> bytes:
    disposition = 'Content-Disposition: form-data; name="file"; filename="x.png"'
    return f"--{BOUNDARY}\r\n{disposition}\r\n\r\n".encode() + picture + b"\r\n"


def _json(name: str, document: object) -> Request:
    return _post(name, "application/json", json.dumps(document).encode())


def _v2(name: str, datatype: str, shape: list[int], data: bytes) -> Request:
    tensor = {
        "name": "image",
        "datatype": datatype,
        "shape": shape,
        "parameters": {"binary_data_size": len(data)},
    }
    document = json.dumps({"inputs": [tensor]}).encode()
    length = f"Inference-Header-Content-Length: {len(document)}\r\n"
    media_type = "application/octet-stream"
    path = "/v2/models/digits/infer"
    return _post(name, media_type, document + data, path=path, fields=length)


def _post(
    name: str,
    media_type: str,
    body: bytes,
    *,
    path: str = "/predict",
    fields: str = "",
    expected: frozenset[int] = OK,
    leaves: bool = False,
    cut: int = 0,
) -> Request:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\n{fields}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return Request(name, head.encode() + body, expected, leaves, cut)
