"""What is fuzzed: bytes in, and nothing out but what was raised on purpose.

Each target takes one input and returns; whatever it raises is a finding.
"""

import asyncio
import json
import tempfile
import tracemalloc
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import numpy as np
from starlette.types import ASGIApp, Message

from logitserve.inference import images, preprocessing
from logitserve.inference.card import Fit, Head, InputSpec
from logitserve.inference.errors import ImageError
from logitserve.inference.mnist.form import are_normalized
from logitserve_service.config.settings import Settings
from logitserve_service.server.assembly import Process, Shared
from logitserve_service.server.drain import Drain
from tests import tiny_models
from tests.fuzz.make_corpus import HEADER_LENGTH_BYTES

SPECS = (
    InputSpec(height=28, width=28, channels=1, fit=Fit.DIGIT),
    InputSpec(height=12, width=16, channels=3, fit=Fit.STRETCH),
    InputSpec(height=9, width=7, channels=1, fit=Fit.PAD),
    InputSpec(height=1, width=5, channels=3, fit=Fit.PAD),
)
MAX_PIXELS = 300_000
FREE_BYTES = 4 * MAX_PIXELS + 2**21
"""Of a decoded image with four channels, and what any request takes."""
BYTES_PER_BYTE = 64
JSON_PATHS = (
    "/predict",
    "/models/scenes/predict",
    "/v2/models/digits/infer",
    "/v2/models/scenes/infer",
    "/v1/models/digits:predict",
    "/v2/repository/index",
)
PROBLEM = "application/problem+json"


def image(data: bytes) -> None:
    """An encoded picture: decoded once, and fitted to networks of every kind."""
    try:
        samples = images.decode(data, max_pixels=MAX_PIXELS)
    except ImageError:
        return
    assert samples.dtype == np.uint8
    assert samples.shape[0] * samples.shape[1] <= MAX_PIXELS
    assert samples.shape[2:] in {(), (2,), (3,), (4,)}
    for spec in SPECS:
        fitted = preprocessing.fit(samples, spec, lambda _: None)
        assert fitted.dtype == np.uint8
        assert fitted.shape == spec.shape
        if spec.fit is Fit.DIGIT:
            digit = fitted[:, :, 0]
            assert not digit.any() or are_normalized(digit[np.newaxis])[0]


def json_body(data: bytes) -> None:
    """A JSON body, sent to the protocol that its first byte names."""
    path = JSON_PATHS[data[0] % len(JSON_PATHS)] if data else JSON_PATHS[0]
    _answered(path, [(b"content-type", b"application/json")], data[1:])


def binary(data: bytes) -> None:
    """A body of the binary tensor extension; before it, the length of its JSON in two bytes."""
    length = int.from_bytes(data[:HEADER_LENGTH_BYTES], "little")
    headers = [(b"inference-header-content-length", str(length).encode())]
    _answered("/v2/models/digits/infer", headers, data[HEADER_LENGTH_BYTES:])


TARGETS: dict[str, Callable[[bytes], None]] = {"image": image, "json": json_body, "binary": binary}


def _answered(path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Post it to the service in this process, and hold the answer against what is promised."""
    app, loop = _service()
    tracemalloc.start()
    try:
        status, content_type, answer = loop.run_until_complete(_posted(app, path, headers, body))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < FREE_BYTES + BYTES_PER_BYTE * len(body), f"{peak} bytes for {len(body)} sent"
    assert status < 500, (path, status, answer)
    if status >= 400:
        assert content_type == PROBLEM, (path, content_type)
        assert json.loads(answer)["status"] == status
    elif content_type == "application/json":
        json.loads(answer, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


async def _posted(
    app: ASGIApp, path: str, headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> tuple[int, str, bytes]:
    sent: list[Message] = []

    received: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if not received:
            await asyncio.Event().wait()
        return received.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"x"), (b"content-length", b"%d" % len(body)), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    start, *rest = sent
    names = {name.lower(): value for name, value in start["headers"]}
    answer = b"".join(message.get("body", b"") for message in rest)
    return start["status"], names[b"content-type"].decode().partition(";")[0], answer


@cache
def _service() -> tuple[ASGIApp, asyncio.AbstractEventLoop]:
    """The whole service over tiny models, and a loop to run it in; made once."""
    folder = Path(tempfile.mkdtemp(prefix="logitserve-fuzz-"))
    models = folder / "models"
    tiny_models.publish(models, name="digits")
    tiny_models.publish(
        models,
        name="scenes",
        head=Head.SIGMOID,
        labels=("car", "bus"),
        thresholds=(0.2, 0.5),
        spec=SPECS[1],
    )
    tiny_models.publish(models, name="zero", head=Head.BINARY, labels=("other", "zero"))
    settings = Settings(models=models, max_pixels=MAX_PIXELS, max_pictures=40)
    loop = asyncio.new_event_loop()
    drain = Drain(linger_seconds=0, drain_seconds=1)
    return loop.run_until_complete(_assembled(settings, drain)), loop


async def _assembled(settings: Settings, drain: Drain) -> ASGIApp:
    return Process.of(settings, Shared.of(1), drain).asgi
