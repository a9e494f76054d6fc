"""Requests of a load test, made before it begins, and what their answers must say.

The pictures are digits that the project draws itself, so that their labels are known.
"""

import base64
import io
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image

from logitserve_training.drawings import draw

MODEL: Final = "digits"
SEEDS: Final = range(20, 28)
"""Of the drawings: no doubtful one is among them, as a one with the flag of a seven is."""
BATCH: Final = 8
"""Pictures in a request that is not for one."""
REQUESTS_OF_A_KIND: Final = 40

_BOUNDARY = "a-boundary-that-no-picture-holds"


@dataclass(frozen=True, slots=True)
class Request:
    """One that is ready to be sent."""

    kind: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    digits: tuple[int, ...]
    """Drawn in its pictures."""

    def wrong(self, answer: bytes) -> str:
        """What is wrong with an answer to it; nothing if it says what was drawn."""
        found = _read(json.loads(answer))
        return "" if found == self.digits else f"drawn {self.digits}, answered {found}"


Picture = tuple[int, Image.Image]
"""A drawing, and the digit in it."""


def _read(answer: Mapping[str, Any]) -> tuple[int, ...]:
    if "predictions" in answer:
        return tuple(int(prediction["label"]) for prediction in answer["predictions"])
    (output,) = answer["outputs"]
    return tuple(output["data"])


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _tensor(pictures: Sequence[Picture]) -> bytes:
    return np.stack([np.asarray(picture, np.uint8) for _, picture in pictures]).tobytes()


def _request(
    kind: str, path: str, content_type: str, body: bytes, pictures: Sequence[Picture], **more: str
) -> Request:
    headers = {"Content-Type": content_type, **{k.replace("_", "-"): v for k, v in more.items()}}
    return Request(kind, path, headers, body, tuple(digit for digit, _ in pictures))


def one_png(pictures: Sequence[Picture]) -> Request:
    """One encoded picture as the body."""
    ((_, picture),) = pictures
    return _request("one PNG", "/predict", "image/png", _png(picture), pictures)


def multipart(pictures: Sequence[Picture]) -> Request:
    """A field `file` a picture."""
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{number}.png"\r\n'
        "Content-Type: image/png\r\n\r\n".encode()
        + _png(picture)
        + b"\r\n"
        for number, (_, picture) in enumerate(pictures)
    ]
    body = b"".join([*parts, f"--{_BOUNDARY}--\r\n".encode()])
    content_type = f"multipart/form-data; boundary={_BOUNDARY}"
    return _request(f"{len(pictures)} PNGs, multipart", "/predict", content_type, body, pictures)


def base64_json(pictures: Sequence[Picture]) -> Request:
    """Encoded pictures in JSON."""
    images = [base64.b64encode(_png(picture)).decode() for _, picture in pictures]
    body = json.dumps({"images": images}).encode()
    return _request(f"{len(pictures)} PNGs, JSON", "/predict", "application/json", body, pictures)


def _v2(pictures: Sequence[Picture], given: Mapping[str, Any]) -> bytes:
    shape = [len(pictures), 28, 28, 1]
    inputs = [{"name": "image", "datatype": "UINT8", "shape": shape, **given}]
    return json.dumps({"inputs": inputs, "outputs": [{"name": "argmax"}]}).encode()


def v2_json(pictures: Sequence[Picture]) -> Request:
    """A tensor of the Open Inference Protocol, as numbers."""
    body = _v2(pictures, {"data": list(_tensor(pictures))})
    path = f"/v2/models/{MODEL}/infer"
    return _request(f"V2 tensor of {len(pictures)}, JSON", path, "application/json", body, pictures)


def v2_binary(pictures: Sequence[Picture]) -> Request:
    """A tensor of the Open Inference Protocol, as bytes behind the JSON."""
    tensor = _tensor(pictures)
    head = _v2(pictures, {"parameters": {"binary_data_size": len(tensor)}})
    return _request(
        f"V2 tensor of {len(pictures)}, binary",
        f"/v2/models/{MODEL}/infer",
        "application/octet-stream",
        head + tensor,
        pictures,
        Inference_Header_Content_Length=str(len(head)),
    )


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the mix."""

    percent: int
    pictures: int
    """In each request."""
    make: Callable[[Sequence[Picture]], Request]


MIX: Final = (
    Share(70, 1, one_png),
    Share(10, BATCH, multipart),
    Share(10, BATCH, base64_json),
    Share(5, BATCH, v2_json),
    Share(5, BATCH, v2_binary),
)


def drawings() -> list[Picture]:
    """Every digit in several ways."""
    return [(digit, draw(digit, seed=seed).convert("L")) for seed in SEEDS for digit in range(10)]


def prepared(seed: int = 0) -> dict[Share, list[Request]]:
    """Requests of each kind, of pictures that are drawn from all."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    all_pictures = drawings()
    return {
        share: [
            share.make(chance.sample(all_pictures, share.pictures))
            for _ in range(REQUESTS_OF_A_KIND)
        ]
        for share in MIX
    }
