"""What is sent: the inputs that once cost most, and endlessly many like them, from a grammar.

Most are one small thing, repeated until it is as large as may be. Each is made from its number
alone, so that it can be made again.
"""

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from random import Random

import numpy as np

from tests.hunt import pictures
from tests.hunt.clients import Case, Grpc, Http
from tests.tiny_models import png

MOST = 30_000_000
"""Bytes of the largest bodies; the service takes 32 MiB."""
PIECE = 2**16
V2 = "/v2/models/digits/infer"
V1 = "/v1/models/digits:predict"
HEADER_LENGTH = "Inference-Header-Content-Length"
DIGIT = png(np.eye(28, dtype=np.uint8) * 255)


@dataclass(frozen=True)
class Repeated:
    """Bytes that are made anew in pieces whenever they are sent."""

    unit: bytes
    times: int
    before: bytes = b""
    after: bytes = b""

    def __len__(self) -> int:
        return len(self.before) + len(self.unit) * self.times + len(self.after)

    def __iter__(self) -> Iterator[bytes]:
        yield self.before
        in_piece = max(1, PIECE // len(self.unit))
        whole, rest = divmod(self.times, in_piece)
        piece = self.unit * in_piece
        for _ in range(whole):
            yield piece
        yield self.unit * rest
        yield self.after


Body = bytes | Repeated


def head(path: str, *fields: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *fields, "\r\n"]).encode()


def post(name: str, path: str, body: Body, *fields: str, decodes: bool = False) -> Http:
    before = head(path, f"Content-Length: {len(body)}", *fields)
    return Http(name, [before, *([body] if isinstance(body, bytes) else body)], decodes=decodes)


def json_post(name: str, path: str, body: Body) -> Http:
    return post(name, path, body, "Content-Type: application/json")


# JSON: a hole in a document, and what is repeated in it.

_INPUT = '{"name":"image","datatype":"%s","shape":%s,"data":[@]%s}'
HOLES = (
    ("/predict", '{"pixels":[@]}'),
    ("/predict", '{"images":[@]}'),
    ("/predict", '{"pixels":[[[@]]]}'),
    ("/predict", "[@]"),
    ("/predict", '{"pixels":[[0]],@}'),
    ("/predict", '{"images":["@"]}'),
    ("/predict", '{"@":0}'),
    ("/models/scenes/preview", '{"pixels":[@]}'),
    (V2, '{"inputs":[@]}'),
    (V2, '{"inputs":[%s]}' % (_INPUT % ("UINT8", "[1,28,28,1]", ""))),
    (V2, '{"inputs":[%s]}' % (_INPUT % ("UINT8", "[1024,28,28,1]", ""))),
    (V2, '{"inputs":[%s]}' % (_INPUT % ("BYTES", "[1000]", ""))),
    (V2, '{"inputs":[%s]}' % (_INPUT % ("BYTES", "[@]", ""))),
    (V2, '{"inputs":[%s],"outputs":[@]}' % (_INPUT % ("UINT8", "[1,28,28,1]", ""))),
    (V2, '{"inputs":[],"parameters":{@}}'),
    (V1, '{"instances":[@]}'),
    (V1, '{"inputs":{"image":[@]}}'),
    (V1, '{"instances":[{"b64":"@"}]}'),
)
VALUES = (
    *("0", "255", "-1", "1.5", "1e400", "123456789012345678901234567890", "true", "null"),
    *('""', '"a"', '"é"', '"😀"', r'"é"', r'"\\\""', '"AAAA"', '"%s"' % ("é" * 40)),
    *("[]", "{}", "[[]]", '{"a":0}', '{"a":{}}', '{"name":"image"}', '{"b64":""}', "[0,0,0]"),
    '{"a":0,"b":0,"c":0,"d":0,"e":0,"f":0}',
)


def json_case(number: int) -> Http:
    rng = Random(f"json {number}")
    path, hole = rng.choice(HOLES)
    before, _, after = hole.partition("@")
    if '"@"' in hole:  # in a string
        unit = rng.choice(["A", "[", "{", r"\"", r"\\", "é", r"é", "AAAA"])
    elif hole.endswith("@}") or "{@}" in hole:  # members
        unit = f'"{rng.choice(["a", "", "images", "binary_data"])}":{rng.choice(VALUES)},'
    else:
        unit = "".join(f"{_value(rng)}," for _ in range(rng.randint(1, 3)))
    encoded = unit.encode()
    after = rng.choice(["0", "", '"'] if "@]" in hole else [""]) + after
    body = Repeated(encoded, _times(rng, encoded), before.encode(), after.encode())
    return json_post(f"json {number}: {path} {hole} {unit[:60]}", path, body)


def _value(rng: Random, depth: int = 2) -> str:
    if depth and rng.random() < 0.2:
        inner = [_value(rng, depth - 1) for _ in range(rng.randint(0, 3))]
        if rng.random() < 0.5:
            return f"[{','.join(inner)}]"
        return "{%s}" % ",".join(f'"{key}":{value}' for key, value in enumerate(inner))
    return rng.choice(VALUES)


def _times(rng: Random, unit: bytes) -> int:
    """As often as fits into any size; often as many as the service takes of values."""
    most = MOST // len(unit)
    if rng.random() < 0.5:
        values = unit.count(b",") + unit.count(b"[") + unit.count(b"{") + unit.count(b'"') // 2
        return min(most, (2**20 - 100) // max(1, values))
    return max(1, int(most ** rng.random()))


# Multipart.

PART_HEADS = (
    'Content-Disposition: form-data; name="file"; filename="x"',
    'Content-Disposition: form-data; name="file"; filename=""',
    'Content-Disposition: form-data; name="file"',
    'content-disposition: form-data; name="file"; filename="x"\r\ncontent-type: image/png',
    "A: b",
    "",
)


def multipart_case(number: int) -> Http:
    rng = Random(f"multipart {number}")
    boundary = rng.choice(["b", "b" * 70, "-"])
    content = rng.choice([b"", b"x", b"\r\n--", b"\r\n", f"\r\n--{boundary}".encode(), DIGIT])
    lines = "\r\n".join([rng.choice(PART_HEADS), *["A: b"] * rng.choice([0, 0, 8, 1000])])
    delimiter = f"--{boundary}\r\n".encode()
    part = delimiter + lines.encode() + b"\r\n\r\n" + content + b"\r\n"
    unit = rng.choice([part, part, delimiter, content or b"x", lines.encode() or b"x"])
    before = rng.choice([b"", part, delimiter, b"preamble\r\n"])
    times = min(_times(rng, unit), rng.choice([1000, 1024, MOST]))
    body = Repeated(unit, times, before, rng.choice([f"--{boundary}--\r\n".encode(), b""]))
    kind = f"Content-Type: multipart/form-data; boundary={boundary}"
    return post(f"multipart {number}: {unit[:60]!r}", "/predict", body, kind, decodes=True)


# The binary tensor extension.


def binary_case(number: int) -> Http:
    rng = Random(f"binary {number}")
    unit = rng.choice([b"\0\0\0\0", b"\0", b"\xff" * 4, b"\1\0\0\0x", bytes(784)])
    body = Repeated(unit, _times(rng, unit))
    count = rng.choice([1, 1024, 10**9, len(body) // 784, len(body) // 4])
    shape = rng.choice([[count], [count, 28, 28, 1]])
    datatype = "BYTES" if len(shape) == 1 else "UINT8"
    extra = {"parameters": {"binary_data_size": len(body)}}
    tensor = {"name": "image", "datatype": datatype, "shape": shape, **extra}
    documents = [{"inputs": [tensor]}, {"inputs": [tensor] * 9000}]
    document = json.dumps(rng.choice(documents)).encode()
    length = rng.choice([len(document), 0, len(document) + len(body)])
    whole = Repeated(body.unit, body.times, document)
    fields = ("Content-Type: application/octet-stream", f"{HEADER_LENGTH}: {length}")
    return post(f"binary {number}: {unit[:8]!r}", V2, whole, *fields, decodes=True)


# Framing, heads and connections.


def framing_case(number: int) -> Http:
    rng = Random(f"framing {number}")
    kind = rng.choice(sorted(FRAMINGS))
    return Http(f"framing {number}: {kind}", *FRAMINGS[kind](rng))


Framing = Callable[[Random], tuple[Iterable[bytes], int]]
CHUNKED = "Transfer-Encoding: chunked"
GET = head("/livez", method="GET")


def _chunks(rng: Random) -> tuple[Iterable[bytes], int]:
    data = b"x" * rng.choice([1, 2, 3, 16, 500])
    chunk = b"%x%s\r\n%s\r\n" % (len(data), rng.choice([b"", b";a=b"]), data)
    end = rng.choice([b"0\r\n\r\n", b"0\r\n", b""])
    kind = rng.choice(["application/json", "image/png", "multipart/form-data; boundary=x"])
    before = head("/predict", CHUNKED, f"Content-Type: {kind}")
    return Repeated(chunk, _times(rng, chunk), before, end), 1


def _trailers(rng: Random) -> tuple[Iterable[bytes], int]:
    field = rng.choice([b"a: b\r\n", b"a:\r\n", b"a: " + b"b" * 4000 + b"\r\n"])
    before = head("/predict", CHUNKED) + b"1\r\nx\r\n0\r\n"
    return Repeated(field, _times(rng, field), before, rng.choice([b"\r\n", b""])), 1


def _fields(rng: Random) -> tuple[Iterable[bytes], int]:
    field = rng.choice([b"a: b\r\n", b"a", b"a: " + b"b" * 4000 + b"\r\n", b"Cookie: a=b\r\n"])
    before = b"POST /predict HTTP/1.1\r\n"
    return Repeated(field, _times(rng, field), before, b"\r\n\r\n"), 1


def _query(rng: Random) -> tuple[Iterable[bytes], int]:
    unit = rng.choice([b"a", b"a=b&", b"&", b"%41", b"top_k=1&", b";"])
    path = rng.choice([b"/predict", b"/v2/models/x/infer", b"/models", b"/livez", b"/"])
    rest = b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    times = rng.choice([60_000 // len(unit), _times(rng, unit)])
    return Repeated(unit, times, b"POST " + path + b"?", rest), 1


def _extension(rng: Random) -> tuple[Iterable[bytes], int]:
    return Repeated(b"a" * rng.choice([1, 64]), 10**5, head("/predict", CHUNKED) + b"1;"), 1


def _pipelined(rng: Random) -> tuple[Iterable[bytes], int]:
    unit = rng.choice([GET, head("/predict", "Content-Length: 1") + b"x", head("/nowhere")])
    times = rng.choice([2, 1000])
    return Repeated(unit, times, rng.choice([b"", TOO_LARGE])), rng.choice([1, 0])


TOO_LARGE = head("/predict", "Content-Length: 99999999")


def _unfinished(rng: Random) -> tuple[Iterable[bytes], int]:
    whole = head("/predict", "Content-Length: 1000", *rng.choice([[], ["Expect: 100-continue"]]))
    return [(whole + bytes(1000))[: rng.randint(1, len(whole) + 999)]], 1


def _compressed(rng: Random) -> tuple[Iterable[bytes], int]:
    encoding = rng.choice(["gzip", "deflate", "br", "zstd", "gzip, gzip"])
    fields = (f"Content-Encoding: {encoding}", "Content-Length: 30000000")
    return Repeated(bytes(PIECE), 450, head("/predict", *fields)), 1


def _upgrade(rng: Random) -> tuple[Iterable[bytes], int]:
    protocol = rng.choice(["h2c", "websocket", "x"])
    fields = ("Connection: Upgrade", f"Upgrade: {protocol}", "Content-Length: 9")
    return [head("/predict", *fields) + b"x" * rng.choice([0, 9, 10**6])], 1


def _noise(rng: Random) -> tuple[Iterable[bytes], int]:
    return [rng.randbytes(rng.randint(1, 3000))], 1


FRAMINGS: dict[str, Framing] = {
    "chunks": _chunks,
    "trailers": _trailers,
    "fields": _fields,
    "query": _query,
    "extension": _extension,
    "pipelined": _pipelined,
    "unfinished": _unfinished,
    "compressed": _compressed,
    "upgrade": _upgrade,
    "noise": _noise,
}


# Protocol buffers, written by hand: what the classes cannot hold can be sent all the same.


def delimited(field: int, *values: bytes) -> bytes:
    data = b"".join(values)
    return varint(field << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


MODEL = delimited(1, b"digits")
IMAGE = delimited(1, b"image")


def tensor(*fields: bytes, datatype: bytes = b"UINT8", shape: bytes = b"\x01\x1c\x1c\x01") -> bytes:
    return delimited(5, IMAGE, delimited(2, datatype), delimited(3, shape), *fields)


GRPC_UNITS = (b"\0", b"\1", b"\x7f", b"\xff\1", b"\x0a\0", b"\x2a\0", b"\x3a\0", b"\x22\0", b"x")
MESSAGES: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: data,
    lambda data: MODEL + data,
    lambda data: delimited(1, data),
    lambda data: MODEL + delimited(5, data),
    lambda data: MODEL + tensor(shape=data),
    lambda data: MODEL + tensor(delimited(5, data)),  # contents
    *(
        lambda data, field=field: MODEL + tensor(delimited(5, delimited(field, data)))
        for field in range(1, 10)  # packed contents of each type
    ),
    lambda data: MODEL + tensor(delimited(5, data), datatype=b"BYTES", shape=b"\xe8\x07"),
    lambda data: MODEL + tensor() + delimited(7, data),
    lambda data: MODEL + tensor(datatype=b"BYTES", shape=b"\xe8\x07") + delimited(7, data),
    lambda data: MODEL + delimited(4, data),
    lambda data: MODEL + tensor(delimited(4, data)),
)
CONTENTS_UNITS = tuple(varint(field << 3 | 2) + b"\0" for field in range(1, 10))
METHODS = ("ServerLive", "ServerMetadata", "ModelReady", "ModelMetadata", "RepositoryIndex")


def grpc_case(number: int) -> Grpc:
    rng = Random(f"grpc {number}")
    unit = rng.choice(GRPC_UNITS + CONTENTS_UNITS)
    index = rng.randrange(len(MESSAGES))
    message = MESSAGES[index](unit * _times(rng, unit))
    method = rng.choice(METHODS) if rng.random() < 0.1 else "ModelInfer"
    gzip = rng.random() < 0.1
    name = f"grpc {number}: {method} {index} {unit!r}{' gzip' if gzip else ''}"
    return Grpc(name, message, method, gzip, decodes=True)


# Images.


def picture_case(number: int) -> Http:
    """Odd and mutated ones, in each of the ways that images are sent."""
    half, is_odd = divmod(number, 2)
    picture = (pictures.odd if is_odd else pictures.mutated)(half)
    way = half % 6
    name = f"picture {number}: way {way}"
    if way < 3:
        path = ("/predict", "/models/scenes/predict", "/models/digits/preview")[way]
        return post(name, path, picture, "Content-Type: application/octet-stream", decodes=True)
    if way == 3:
        part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        body = (part + picture + b"\r\n") * 2 + b"--b--\r\n"
        kind = "Content-Type: multipart/form-data; boundary=b"
        return post(name, "/predict", body, kind, decodes=True)
    if way == 4:
        body = json.dumps({"images": [base64.b64encode(picture).decode()]}).encode()
        return post(name, "/predict", body, "Content-Type: application/json", decodes=True)
    data = len(picture).to_bytes(4, "little") + picture
    size = {"parameters": {"binary_data_size": len(data)}}
    document = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], **size}]}
    encoded = json.dumps(document).encode()
    length = f"{HEADER_LENGTH}: {len(encoded)}"
    return post(name, V2, encoded + data, length, decodes=True)


KINDS: dict[str, Callable[[int], Case]] = {
    "json": json_case,
    "multipart": multipart_case,
    "binary": binary_case,
    "framing": framing_case,
    "grpc": grpc_case,
    "picture": picture_case,
}


def known() -> Iterator[Case]:
    """Each once cost far more than it is."""
    for times in (20_000, 500_000):
        body = Repeated(b'"a",', times, b'{"pixels":[', b'"a"]}')
        yield json_post(f"{times} short strings as pixels", "/predict", body)
    long = Repeated(b"a", 10_000_000, b'{"pixels":["', b'","a"]}')
    yield json_post("a long string as a pixel", "/predict", long)
    objects = Repeated(b'{"a":0},', 340_000, b'{"images":[', b"0]}")
    yield json_post("objects as images", "/predict", objects)
    largest = Repeated(b"0,", 2**20 - 10, b'{"pixels":[[', b"0]]}")
    yield json_post("as many pixels as may be", "/predict", largest)
    trailers = Repeated(b"a: b\r\n", MOST // 6, head("/predict", CHUNKED) + b"1\r\nx\r\n0\r\n")
    yield Http("endless trailers", trailers)
    yield Http(
        "endless short chunks", Repeated(b"2\r\nab\r\n", 4_000_000, head("/predict", CHUNKED))
    )
    yield Http("a request behind a 413", [TOO_LARGE + GET], finish=False)
    yield Http("nothing after a 413, closed", [TOO_LARGE], finish=True)
    yield Http("a request behind a part of one", [TOO_LARGE + bytes(10**6) + GET])
    for finish in (False, True):
        yield Http("nothing", [], answers=0, finish=finish)
        yield Http("a part of a head", [b"POST /predict HT"], finish=finish)
        yield Http("a part of a body", [head("/predict", "Content-Length: 9"), b"x"], finish=finish)
        yield Http("answered, not read", [GET * 100], answers=0, finish=finish)
    yield Http("nothing over gRPC", [], answers=0, port="grpc")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    yield Http("only settings over gRPC", [preface], answers=0, port="grpc")
    yield Grpc("empty inputs", MODEL + b"\x2a\0" * (MOST // 2))
    yield Grpc("empty outputs", MODEL + b"\x32\0" * (MOST // 2))
    yield Grpc("a long shape", MODEL + tensor(shape=b"\1" * MOST))
    yield Grpc("empty elements", MODEL + tensor(delimited(5, b"\x42\0" * (MOST // 2))))
    for field in (2, 3, 4, 5):
        data = delimited(5, delimited(field, b"\1" * MOST))
        yield Grpc(f"many packed numbers, type {field}", MODEL + tensor(data))
    yield Grpc("zeros, compressed", MODEL + delimited(7, bytes(MOST)), gzip=True)
    yield Grpc("a large message for a probe", delimited(9, bytes(MOST)), "ServerLive")
    yield Grpc("a long name", delimited(1, b"a" * MOST))


def large_pictures() -> Iterator[Case]:
    """Few bytes, many pixels; within the limits."""
    for shape in ((7000, 7000), (4000, 4000, 3)):
        picture = png(np.zeros(shape, np.uint8))
        fields = ("Content-Type: image/png",)
        yield post(f"a picture of {shape}", "/predict", picture, *fields, decodes=True)
