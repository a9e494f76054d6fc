"""Every form of a request, as logitserve and a hand-written endpoint take it."""

import base64
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.load import Request
from logitserve.inference.mnist import normalize
from logitserve_training import drawings

DEFAULT = "digits-mlp"
ADOPTED = "adopted"
IMAGES = 512
"""Different ones, each as often as the others."""

UInt8 = npt.NDArray[np.uint8]
Encoded = tuple[bytes, dict[str, str]]
"""Body and header fields."""
Encoder = Callable[[UInt8], Encoded]


@cache
def digits(count: int = IMAGES) -> UInt8:
    """Drawn digits as MNIST would hold them: `[count, 28, 28]`; image n shows n modulo 10."""
    drawn = (drawings.draw(n % 10, seed=n, paper=drawings.SHEET) for n in range(count))
    return np.stack([normalize.normalize(np.asarray(d.convert("L")), None) for d in drawn])


def png(image: UInt8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def raw(image: UInt8) -> Encoded:
    return png(image), {"Content-Type": "image/png"}


def multipart(image: UInt8) -> Encoded:
    boundary = "c0a1f3d2e4b54c6f8a7b9d0e1f2a3b4c"
    part = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="digit.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    )
    body = part.encode() + png(image) + f"\r\n--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def _json(document: object) -> Encoded:
    return json.dumps(document).encode(), {"Content-Type": "application/json"}


def json_images(image: UInt8) -> Encoded:
    return _json({"images": [base64.b64encode(png(image)).decode()]})


def json_pixels(image: UInt8) -> Encoded:
    return _json({"pixels": image.tolist()})


TENSOR = {"name": "image", "shape": [1, 28, 28, 1], "datatype": "UINT8"}


def v2_json(image: UInt8) -> Encoded:
    tensor = {**TENSOR, "data": image.ravel().tolist()}
    return _json({"inputs": [tensor], "outputs": [{"name": "probabilities"}]})


def v2_binary(image: UInt8) -> Encoded:
    tensor = {**TENSOR, "parameters": {"binary_data_size": image.size}}
    output = {"name": "probabilities", "parameters": {"binary_data": True}}
    head, _ = _json({"inputs": [tensor], "outputs": [output]})
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    return head + image.tobytes(), headers


def v1_json(image: UInt8) -> Encoded:
    return _json({"instances": image.reshape(1, 28, 28, 1).tolist()})


def v2_bytes(image: UInt8) -> Encoded:
    """An encoded image in a BYTES tensor, as MLServer's base64 codec reads it."""
    text = base64.b64encode(png(image)).decode()
    tensor = {
        "name": "image",
        "shape": [1, 1],
        "datatype": "BYTES",
        "data": [text],
        "parameters": {"content_type": "base64"},
    }
    return _json({"inputs": [tensor]})


def v1_b64(image: UInt8) -> Encoded:
    """An encoded image as KServe's custom predictors get it."""
    return _json({"instances": [{"b64": base64.b64encode(png(image)).decode()}]})


def probabilities(headers: Mapping[str, str], body: bytes) -> dict[int, float]:
    """Class → probability, from an answer of any form and any server."""
    length = headers.get("inference-header-content-length")
    if length:
        return dict(enumerate(np.frombuffer(body[int(length) :], np.float32).tolist()))
    document: Any = json.loads(body)
    if "outputs" in document:
        return dict(enumerate(document["outputs"][0]["data"]))
    first = document["predictions"][0] if "predictions" in document else document
    if isinstance(first, list):
        return dict(enumerate(first))
    return {int(label): value for label, value in first["probabilities"].items()}


@dataclass(frozen=True, slots=True)
class Form:
    """A row of the table, for one or several models."""

    name: str
    title: str
    encode: Encoder
    ours: str
    by_hand: str
    needed: float
    """Times the requests/s of the hand-written endpoint."""
    models: tuple[str, ...] = ("",)
    """`""` is the default model, by a path without a name."""
    numbered: bool = False
    mosec: bool = False


NAMED = (DEFAULT, ADOPTED)
IMAGE, BY_MODEL = "/predict", "/models/{model}/predict"
RAW, RAW_BY_MODEL = "/raw", "/models/{model}/raw"
JSON, JSON_BY_MODEL = "/json", "/models/{model}/json"
V2 = "/v2/models/{model}/infer"
FORMS = (
    Form("raw", "raw PNG", raw, IMAGE, RAW, 7, mosec=True),
    Form("raw", "raw PNG, own request id", raw, IMAGE, RAW, 6.5, numbered=True, mosec=True),
    Form("raw", "raw PNG", raw, BY_MODEL, RAW_BY_MODEL, 6.5, NAMED, mosec=True),
    Form(
        *("raw", "raw PNG, own request id", raw, BY_MODEL, RAW_BY_MODEL, 6.5, NAMED),
        numbered=True,
        mosec=True,
    ),
    Form("multipart", "multipart, one file", multipart, IMAGE, IMAGE, 5),
    Form("multipart", "multipart, one file", multipart, BY_MODEL, BY_MODEL, 5, NAMED),
    Form("json-images", "JSON, base64", json_images, IMAGE, JSON, 4),
    Form("json-images", "JSON, base64", json_images, BY_MODEL, JSON_BY_MODEL, 4, (ADOPTED,)),
    Form("json-pixels", "JSON, pixels", json_pixels, IMAGE, "/pixels", 3),
    Form("top-k", "raw PNG, `top_k=3`", raw, "/predict?top_k=3", "/top?k=3", 5),
    Form(
        "coverage",
        "raw PNG, `coverage=0.99`",
        raw,
        "/predict?coverage=0.99",
        "/set?coverage=0.99",
        4,
    ),
    Form("v2-json", "V2 JSON", v2_json, V2, V2, 3.5, NAMED),
    Form("v2-binary", "V2 binary", v2_binary, V2, "/v2/models/{model}/infer-binary", 3.5, NAMED),
    Form(
        "v1-json",
        "V1 JSON",
        v1_json,
        "/v1/models/{model}:predict",
        "/v1/models/{model}:predict",
        3,
        (DEFAULT,),
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One form, asked of one model."""

    form: Form
    named: str
    """Empty: the default model, by a path without a name."""

    @property
    def model(self) -> str:
        """Which model answers."""
        return self.named or DEFAULT

    @property
    def label(self) -> str:
        """The model as tables have it."""
        return {"": "default", DEFAULT: f"`{DEFAULT}`", ADOPTED: "adopted"}[self.named]

    def requests(self, path: str, count: int = IMAGES) -> list[Request]:
        """One request an image."""
        path = path.replace("{model}", self.model)
        return [
            Request(path, *self.form.encode(image), numbered=self.form.numbered)
            for image in digits(count)
        ]


ROWS = tuple(Row(form, named) for form in FORMS for named in form.models)
