"""What a client gets wrong: each fault once, for every form that can have it."""

import base64
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.e2e.profiles import MAX_BODY_BYTES, MAX_IMAGES, SETTINGS
from tests.forms import (
    HEADER_LENGTH,
    JSON_BASE64,
    MULTIPART,
    V1_BASE64,
    V2_BASE64,
    V2_BINARY,
    V2_BYTES,
    V2_RAW,
    Ask,
    Form,
    Image,
)
from tests.tiny_models import png, random_picture

IMAGE = random_picture(0)
GOOD = png(IMAGE)
LARGE = png(np.zeros((1001, 1000), np.uint8))
MARK = "ABCDEFGH"
PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
SWOLLEN = {coding: pack(bytes(MAX_BODY_BYTES + 1)) for coding, pack in PACKERS.items()}
"""Two kilobytes that become more than a body may have."""

Applies = Callable[[Form], bool]
Make = Callable[[Form], Ask]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with a request, and what is answered."""

    name: str
    status: int
    words: tuple[str, ...]
    """Regular expressions, each found in the text of the error."""
    make: Make
    applies: Applies
    same: bool = True
    """The text is the same in all forms."""
    profile: str = "plain"
    fields: tuple[str, ...] = ()
    """Response fields besides those that every error has."""

    def __str__(self) -> str:
        return self.name


def every(_: Form) -> bool:
    return True


def over_http(form: Form) -> bool:
    return form.over_http


def is_json(form: Form) -> bool:
    return form.json


def has_files(form: Form) -> bool:
    return form.files


def has_many(form: Form) -> bool:
    return form.many


def has_many_files(form: Form) -> bool:
    return form.files and form.many


def has_json_pixels(form: Form) -> bool:
    return form.json and not form.files


def has_shape(form: Form) -> bool:
    return not form.files and not form.options and form is not V2_RAW


def has_options(form: Form) -> bool:
    return form.options


def has_no_options(form: Form) -> bool:
    return form.over_http and not form.options


def is_own_json(form: Form) -> bool:
    return form.json and form.options


def is_protocol_json(form: Form) -> bool:
    return form.json and not form.options


def among(*forms: Form) -> Applies:
    return forms.__contains__


def asking(**changes: Any) -> Make:
    return lambda _: Ask([IMAGE], **changes)


def with_field(name: str, value: str) -> Make:
    return asking(fields=[(name, value)])


def packed_as(coding: str, spoil: Callable[[bytes], bytes] = bytes) -> Make:
    """A compressed body, spoiled."""

    def make(form: Form) -> Ask:
        packed = PACKERS.get(coding, zlib.compress)(form.encode([IMAGE]).body)
        return Ask([IMAGE], fields=[("Content-Encoding", coding)], body=spoil(packed))

    return make


def carrying(*images: Image) -> Make:
    return lambda _: Ask(list(images))


def in_pieces(_: Form) -> Ask:
    def content() -> Iterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 100_000 + 1):
            yield bytes(100_000)

    return Ask([IMAGE], body=content())


def of_two_types(form: Form) -> Ask:
    own = dict(form.encode([IMAGE]).fields).get("Content-Type", "application/json")
    return Ask([IMAGE], fields=[("Content-Type", own), ("Content-Type", "image/png")])


def edited(edit: Callable[[dict[str, Any]], None]) -> Make:
    def make(form: Form) -> Ask:
        document = json.loads(form.encode([IMAGE]).body)
        edit(document)
        return Ask([IMAGE], body=json.dumps(document).encode())

    return make


def misspell(document: dict[str, Any]) -> None:
    (key,) = document
    document[key[:-2] + key[:-3:-1]] = document.pop(key)


def add_misspelled(document: dict[str, Any]) -> None:
    """A field beside the others that is almost one that there is."""
    document["ouputs" if "inputs" in document else "signature_nam"] = []


def not_base64(form: Form) -> Ask:
    content = form.encode([GOOD, base64.b64decode(MARK)]).body
    assert MARK.encode() in content
    return Ask([IMAGE], body=content.replace(MARK.encode(), b"*"))


def multipart(name: str, status: int, *words: str, body: bytes, boundary: str = "b") -> Fault:
    kind = f"multipart/form-data; boundary={boundary}" if boundary else "multipart/form-data"
    make = asking(body=body, fields=[("Content-Type", kind)])
    return Fault(f"multipart, {name}", status, words, make, among(MULTIPART))


def part(name: str, filename: str = '; filename="a.png"') -> bytes:
    head = f'--b\r\ncontent-disposition: form-data; name="{name}"{filename}\r\n\r\n'
    return head.encode() + GOOD + b"\r\n"


def json_body(name: str, status: int, *words: str, body: bytes, same: bool = True) -> Fault:
    return Fault(name, status, words, asking(body=body), is_json, same)


def option(query: str, *words: str, model: str = "digits") -> Fault:
    return Fault(query, 422, words, asking(query=query, model=model), has_options)


def key(name: str, word: str, make: Make) -> Fault:
    words = (word, "Authorization: Bearer KEY", "X-API-Key")
    return Fault(name, 401, words, make, every, profile="locked", fields=("www-authenticate",))


NUMBER = "(picture|image) "
UNREADABLE = "not a supported image; send one of PNG, JPEG"
BODY_LIMIT = (f"{MAX_BODY_BYTES} bytes", SETTINGS["body"])
TOO_DEEP = r"deeper than the limit of \d+"
BASE64_FORMS = among(JSON_BASE64, V2_BASE64, V1_BASE64)

ADMISSION = (
    key("no key", "missing", asking()),
    key("wrong key", "not valid", with_field("X-API-Key", "wrong-key")),
    key("wrong bearer", "not valid", with_field("Authorization", "Bearer wrong-key")),
    key("basic authentication", "", with_field("Authorization", "Basic wrong-key")),
    Fault(
        "a body that announces too much",
        *(413, BODY_LIMIT, asking(body=bytes(MAX_BODY_BYTES + 1)), over_http),
        fields=("connection",),
    ),
    Fault(
        "a body that becomes too much",
        *(413, BODY_LIMIT, in_pieces, over_http),
        fields=("connection",),
    ),
    *(
        Fault(
            f"coded as {coding!r}",
            *(415, (re.escape(repr(coding)), "gzip, deflate"), packed_as(coding), over_http),
            fields=("accept-encoding",),
        )
        for coding in ("br", "zstd", "gzip, gzip", "deflate, gzip", "compress")
    ),
    *(
        Fault(f"{what} {coding}", status, texts, packed_as(coding, spoil), over_http, fields=fields)
        for coding in PACKERS
        for what, status, texts, spoil, fields in (
            ("plain", 400, (f"not {coding}",), lambda _: b"\x89PNG plain", ()),
            ("damaged", 400, ("damaged",), lambda data: data[:-1] + bytes([data[-1] ^ 1]), ()),
            ("cut", 400, ("truncated",), lambda data: data[:-1], ()),
            ("followed", 400, ("trailing data",), lambda data: data + data, ()),
            ("swollen", 413, BODY_LIMIT, lambda _, c=coding: SWOLLEN[c], ("connection",)),
        )
    ),
    Fault("two content types", 400, ("(?i)content-type",), of_two_types, over_http),
    Fault("another method", 405, (), asking(method="PUT"), over_http, fields=("allow",)),
    *(
        Fault(
            f"timeout of {value}",
            400,
            ("X-Request-Timeout-Ms", re.escape(repr(value)), "milliseconds"),
            with_field("X-Request-Timeout-Ms", value),
            over_http,
        )
        for value in ("0", "-5", "soon", "1.5")
    ),
    *(
        Fault(
            f"content type {given}",
            415,
            ("image/png", "multipart/form-data", "application/json", *hints),
            with_field("Content-Type", given),
            has_options,
        )
        for given, *hints in (
            ("text/plain",),
            ("application/x-www-form-urlencoded", "curl sends it with --data-binary"),
            ("x",),
        )
    ),
    *(
        Fault(
            f"JSON of {length!r} bytes",
            400,
            ("length of the JSON", re.escape(repr(length))),
            with_field(HEADER_LENGTH, length),
            among(V2_BINARY, V2_BYTES),
            same=False,  # it has the length of the body
        )
        for length in ("many", "-5", "1.5", "", "9999999")
    ),
)

MODELS_AND_OPTIONS = (
    Fault("unknown model", 404, ("'digit'", "digits"), asking(model="digit"), every),
    Fault("unknown version", 404, ("'9'", "1, 2"), asking(version="9"), every),
    Fault("path as model", 404, (), asking(model="..%2f..%2fetc"), over_http, same=False),
    Fault("misspelled query", 422, ("topk", "top_k"), asking(query="topk=3"), has_options),
    Fault("unknown query", 422, ("sharpen",), asking(query="sharpen=1"), over_http, same=False),
    Fault("option elsewhere", 422, ("top_k",), asking(query="top_k=3"), has_no_options),
    option("top_k=0", "top_k"),
    option("top_k=-1", "top_k"),
    option("top_k=many", "top_k"),
    option("coverage=0.4", "coverage", "0.5", "0.999"),
    option("coverage=1", "coverage", "0.5", "0.999"),
    option("coverage=nan", "coverage"),
    option("coverage=much", "coverage"),
    option("coverage=0.9", "no conformal thresholds"),
    option("coverage=0.8", "it is multilabel", model="scaled"),
    option("calibrated=perhaps", "calibrated"),
)

IMAGES = (
    Fault("text", 422, (UNREADABLE,), carrying(b"hello"), has_files),
    Fault("zeros", 422, (UNREADABLE,), carrying(bytes(100)), has_files),
    Fault("cut off", 422, ("damaged",), carrying(GOOD[:-30]), has_files),
    Fault("empty image", 422, (f"{NUMBER}is empty",), carrying(b""), has_files),
    Fault("second image", 422, (f"{NUMBER}1:",), carrying(GOOD, GOOD[:-30]), has_many_files),
    Fault("late image", 422, (f"{NUMBER}70:",), carrying(*[GOOD] * 70, b"x"), has_many_files),
    Fault("pixels", 413, ("1000000 pixels", SETTINGS["pixels"]), carrying(LARGE), has_files),
    Fault("second's pixels", 413, (f"{NUMBER}1:",), carrying(GOOD, LARGE), has_many_files),
    Fault(
        "too many images",
        413,
        (f"limit of {MAX_IMAGES}", SETTINGS["images"]),
        carrying(*[IMAGE] * (MAX_IMAGES + 1)),
        has_many,
    ),
    Fault("256", 422, ("255",), carrying(IMAGE.astype(int) + 256), has_json_pixels, same=False),
    Fault("fractions", 422, ("whole",), carrying(IMAGE / 255), has_json_pixels, same=False),
    Fault("not base64", 422, (r"\[1\] is not base64",), not_base64, BASE64_FORMS, same=False),
    Fault("another shape", 422, ("28",), carrying(IMAGE[:20]), has_shape, same=False),
)

BODIES = (
    json_body("not JSON", 400, "not JSON", same=False, body=b"{"),
    json_body("no body", 400, "not JSON", same=False, body=b""),
    json_body("no UTF-8", 400, "not JSON", same=False, body=b"\xff\xfe"),
    json_body("not a number", 400, "not JSON", same=False, body=b'{"pixels": NaN}'),
    json_body("a list", 422, body=b"[]", same=False),
    json_body("null", 422, body=b"null", same=False),
    json_body("an empty object", 422, body=b"{}", same=False),
    json_body("too deep", 400, TOO_DEEP, body=b"[" * 600 + b"]" * 600),
    json_body("never closed", 400, TOO_DEEP, body=b"[" * 200_000),
    json_body("too many", 413, r"limit of \d+", body=b"[" + b"[]," * 650_000 + b"[]]"),
    Fault(
        "misspelled field",
        422,
        ("pixels|images|inputs|instances",),
        edited(misspell),
        is_json,
        same=False,
    ),
    Fault(
        "near miss",
        422,
        ("ouputs|signature_nam", "outputs|signature_name"),
        edited(add_misspelled),
        is_protocol_json,
        same=False,
    ),
    Fault("option as field", 422, ("top_k",), edited(lambda d: d.update(top_k=3)), is_own_json),
    multipart("cut off", 400, "form", body=part("file")[:-40]),
    multipart("nonsense", 400, "form", body=b"nonsense"),
    multipart("without a boundary", 400, "form", body=b"--x--", boundary=""),
    multipart("empty", 422, "file", body=b"--b--\r\n"),
    multipart("another field", 422, "'image'", "file", body=part("image") + b"--b--\r\n"),
    multipart("no file", 422, "not a file", body=part("file", "") + b"--b--\r\n"),
)

FAULTS = (*ADMISSION, *MODELS_AND_OPTIONS, *IMAGES, *BODIES)
