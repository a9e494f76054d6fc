"""The client, against a real server and against small ones that misbehave on purpose."""

import asyncio
import inspect
import io
import shutil
import socketserver
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from logitserve import client as module
from logitserve.client import (
    AsyncClient,
    Client,
    Prediction,
    ResponseError,
    Retries,
    TooSlowError,
    UnreachableError,
    encoded,
)
from logitserve.inference.card import Head
from logitserve.inference.predictor import Predictor
from tests import tiny_models
from tests.e2e.process import Server, running
from tests.tiny_models import linear_logits, png, random_picture

ROOT = Path(__file__).parents[2]
READY = b'{"models": []}'
Call = Callable[[Any], Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    tiny_models.publish(models, name="digits", seed=1, metrics={"accuracy": 0.5})
    tiny_models.publish(models, name="digits", version="2", seed=2)
    labels = ("car", "bus")
    tiny_models.publish(
        models, name="scenes", head=Head.SIGMOID, labels=labels, seed=3, thresholds=(0.0, 1.0)
    )
    shutil.copytree(ROOT / "models/digits-mlp", models / "digits-mlp")
    with running("--models", str(models), "--version-policy", "all") as started:
        yield started


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`ask(url, lambda client: client.predict(…))`, by either client."""

    def synchronously(url: str, call: Call, waited: list[float], **options: Any) -> Any:
        with Client(url, sleep=waited.append, jitter=lambda: 1.0, **options) as client:
            return call(client)

    def asynchronously(url: str, call: Call, waited: list[float], **options: Any) -> Any:
        async def sleep(seconds: float) -> None:
            waited.append(seconds)

        async def main() -> Any:
            async with AsyncClient(url, sleep=sleep, jitter=lambda: 1.0, **options) as client:
                answer: Awaitable[Any] = call(client)
                return await answer

        return asyncio.run(main())

    chosen = synchronously if request.param == "sync" else asynchronously

    def asked(url: str, call: Call, waited: list[float] | None = None, **options: Any) -> Any:
        return chosen(url, call, [] if waited is None else waited, **options)

    return asked


def expected(seed: int, weights_seed: int) -> list[float]:
    matrix = tiny_models.weights(tiny_models.SPEC, 10, weights_seed)
    exponentials = np.exp(linear_logits(random_picture(seed)[None], matrix))[0]
    probabilities: list[float] = (exponentials / exponentials.sum()).tolist()
    return probabilities


def test_every_kind_of_picture(ask: Any, server: Server, tmp_path: Path) -> None:
    pixels = random_picture(4)
    path = tmp_path / "four.png"
    path.write_bytes(png(pixels))
    image = Image.fromarray(pixels[..., 0])
    for picture in (path, str(path), png(pixels), pixels, pixels[..., 0], image):
        found = ask(server.url, lambda client, p=picture: client.predict(p))
        assert isinstance(found, Prediction)
        assert list(found.probabilities.values()) == pytest.approx(expected(4, 2), abs=1e-5)
        assert (found.model, found.version, found.labels) == ("digits", "2", None)
        assert found.label == str(found.argmax)
        with pytest.raises(FrozenInstanceError):
            found.label = "9"  # type: ignore[misc]


def test_a_list_is_answered_in_its_order_over_several_requests(ask: Any, server: Server) -> None:
    pictures = [random_picture(seed) for seed in range(module.PICTURES_A_REQUEST + 3)]
    found = ask(server.url, lambda client: client.predict(pictures, model="digits", version="1"))
    assert len(found) == len(pictures)
    for seed in (0, 1, module.PICTURES_A_REQUEST, len(pictures) - 1):
        probabilities = list(found[seed].probabilities.values())
        assert probabilities == pytest.approx(expected(seed, 1), abs=1e-5)
    assert ask(server.url, lambda client: client.predict([])) == []


def test_top_k_and_labels(ask: Any, server: Server) -> None:
    found = ask(server.url, lambda client: client.predict(random_picture(1), top_k=3))
    assert len(found.probabilities) == 3
    assert sorted(found.probabilities.values(), reverse=True) == list(found.probabilities.values())
    found = ask(server.url, lambda client: client.predict(random_picture(1), model="scenes"))
    assert found.labels == ("car",)


def test_known_sets_and_raw_probabilities(ask: Any, server: Server) -> None:
    seven = (ROOT / "docs/seven.png").read_bytes()

    def predict(**asked: Any) -> Prediction:
        found = ask(server.url, lambda client: client.predict(seven, model="digits-mlp", **asked))
        assert isinstance(found, Prediction)
        return found

    plain, raw, sure = predict(), predict(calibrated=False), predict(coverage=0.99)
    assert (plain.label, plain.known, plain.set) == ("7", True, None)
    card = Predictor.load(ROOT / "models/digits-mlp/1/model.onnx").card
    powers = {label: p**card.temperature for label, p in plain.probabilities.items()}
    assert raw.probability == pytest.approx(powers["7"] / sum(powers.values()), abs=1e-5)
    assert sure.set is not None
    assert "7" in sure.set
    blank = Image.new("L", (60, 60), 255)
    assert ask(server.url, lambda client: client.predict(blank, model="digits-mlp")).known is False
    found = ask(server.url, lambda client: client.predict(random_picture(1)))
    assert (found.known, found.set) == (None, None)  # the card cannot tell


def test_models(ask: Any, server: Server) -> None:
    listed = ask(server.url, lambda client: client.models())
    assert [(model.name, model.is_default) for model in listed] == [
        ("digits", True),
        ("digits-mlp", False),
        ("scenes", False),
    ]
    assert listed[0].versions == ("1", "2")
    found = ask(server.url, lambda client: client.model("digits", "1"))
    assert (found.height, found.width, found.channels) == (28, 28, 1)
    assert (found.metrics, found.thresholds) == ({"accuracy": 0.5}, None)
    assert found.created == datetime(2026, 1, 1, tzinfo=UTC)
    assert ask(server.url, lambda client: client.model("scenes")).thresholds == (0.0, 1.0)
    assert ask(server.url, lambda client: client.ready()) is True


def test_problems_are_exceptions_and_not_tried_again(ask: Any, server: Server) -> None:
    waited: list[float] = []
    with pytest.raises(ResponseError, match="no model 'cats'") as raised:
        ask(server.url, lambda client: client.predict(random_picture(1), model="cats"), waited)
    assert raised.value.status == 404
    with pytest.raises(ResponseError, match="not a supported image") as raised:
        ask(server.url, lambda client: client.predict(b"not a picture"), waited)
    assert raised.value.status == 422
    assert waited == []


Answer = tuple[bytes, list[bytes], bytes] | None
"""Status line, headers and body; None to drop the connection."""


@contextmanager
def scripted(*answers: Answer) -> Iterator[tuple[str, list[bytes]]]:
    """A server on a socket that gives these answers, one a connection, and keeps the requests."""
    left, received = list(answers), []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += self.rfile.readline()
            length = [
                int(line.split(b":")[1])
                for line in head.lower().splitlines()
                if line.startswith(b"content-length:")
            ]
            received.append(head + self.rfile.read(sum(length)))
            answer = left.pop(0)
            if answer is not None:
                status, headers, body = answer
                size = b"Content-Length: %d" % len(body)
                lines = [b"HTTP/1.1 " + status, size, b"Connection: close", *headers]
                self.wfile.write(b"\r\n".join([*lines, b"", body]))

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.server_address[1]}", received
        finally:
            listener.shutdown()
            thread.join()
    assert not left


def busy(*headers: bytes) -> Answer:
    problem = b'{"title": "Service Unavailable", "status": 503, "detail": "no model is loaded"}'
    return b"503 Service Unavailable", list(headers), problem


FINE: Answer = (b"200 OK", [], READY)


def test_503_twice_then_an_answer(ask: Any) -> None:
    waited: list[float] = []
    with scripted(busy(), busy(), FINE) as (url, received):
        assert ask(url, lambda client: client.models(), waited) == []
    assert waited == pytest.approx([0.2, 0.4])
    assert len(received) == 3


def test_retry_after_is_the_least_that_is_waited(ask: Any) -> None:
    waited: list[float] = []
    limited: Answer = (b"429 Too Many Requests", [b"Retry-After: 3"], b"")
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=10), usegmt=True).encode()
    with scripted(limited, busy(b"Retry-After: " + later), FINE) as (url, _):
        ask(url, lambda client: client.models(), waited)
    assert waited[0] == pytest.approx(3.2)
    assert 5 < waited[1] < 10.5


def test_a_server_that_asks_for_an_hour_is_not_waited_for(ask: Any) -> None:
    waited: list[float] = []
    with (
        scripted(busy(b"Retry-After: 3600")) as (url, _),
        pytest.raises(ResponseError, match="no model is loaded"),
    ):
        ask(url, lambda client: client.models(), waited)
    assert waited == []


def test_a_dropped_connection_is_tried_again_with_the_whole_body(ask: Any) -> None:
    waited: list[float] = []
    body = b'{"model": "m", "version": "1", "predictions": []}'
    with scripted(None, (b"200 OK", [], body)) as (url, received):
        ask(url, lambda client: client.predict([png(random_picture(0))]), waited)
    assert waited == [0.2]
    assert png(random_picture(0)) in received[0]
    assert received[0] == received[1]


def test_tries_end(ask: Any) -> None:
    waited: list[float] = []
    retries = Retries(count=2)
    with scripted(busy(), busy(), busy()) as (url, _), pytest.raises(ResponseError) as raised:
        ask(url, lambda client: client.models(), waited, retries=retries)
    assert (raised.value.status, raised.value.detail) == (503, "no model is loaded")
    assert waited == pytest.approx([0.2, 0.4])
    with pytest.raises(UnreachableError, match=url):
        ask(url, lambda client: client.models(), waited, retries=retries)
    assert waited == pytest.approx([0.2, 0.4, 0.2, 0.4])
    assert ask(url, lambda client: client.ready(), waited) is False
    assert len(waited) == 4


def test_a_timeout_is_not_tried_again(ask: Any) -> None:
    waited: list[float] = []
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as silent:
        url = f"http://127.0.0.1:{silent.server_address[1]}"  # accepted by the kernel only
        with pytest.raises(TooSlowError):
            ask(url, lambda client: client.models(), waited, timeout=0.05)
    assert waited == []


def test_the_key_is_sent(ask: Any) -> None:
    with scripted(FINE, FINE) as (url, received):
        ask(url, lambda client: client.models(), api_key="secret")
        ask(url, lambda client: client.models())
    assert b"X-API-Key: secret" in received[0]
    assert b"x-api-key" not in received[1].lower()


def test_the_key_of_the_environment_is_sent_unless_another_is_given(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGITSERVE_API_KEY", "from-environment")
    with scripted(FINE, FINE) as (url, received):
        ask(url, lambda client: client.models())
        ask(url, lambda client: client.models(), api_key="secret")
    assert b"X-API-Key: from-environment" in received[0]
    assert b"X-API-Key: secret" in received[1]


@pytest.mark.parametrize(
    ("attempt", "jitter", "seconds"), [(0, 0.0, 0.1), (0, 1.0, 0.2), (3, 1.0, 1.6), (20, 1.0, 20.0)]
)
def test_waits_double_up_to_a_limit(attempt: int, jitter: float, seconds: float) -> None:
    assert Retries(count=50).wait(attempt, None, jitter) == pytest.approx(seconds)
    assert Retries(count=attempt).wait(attempt, None, jitter) is None


def test_arrays_that_are_no_pictures() -> None:
    with pytest.raises(ValueError, match="float64"):
        encoded(np.zeros((4, 4)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[4, 4, 7\]"):
        encoded(np.zeros((4, 4, 7), np.uint8))


def test_images_that_png_cannot_keep_as_they_are() -> None:
    turned = Image.new("RGB", (4, 6), "red")
    turned.getexif()[0x0112] = 6  # a quarter turn
    assert Image.open(io.BytesIO(encoded(turned))).size == (6, 4)
    assert Image.open(io.BytesIO(encoded(Image.new("CMYK", (4, 6))))).mode == "RGB"


def test_the_tree_of_errors_is_complete() -> None:
    assert module.__doc__ is not None
    for name, cls in inspect.getmembers(module, inspect.isclass):
        if issubclass(cls, module.ClientError):
            assert name in module.__doc__.split()


def test_both_clients_offer_the_same() -> None:
    def public(cls: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(cls, inspect.isfunction)
            if not name.startswith("_")
        }

    assert public(Client) == public(AsyncClient)


@pytest.mark.parametrize("make", [bytearray, memoryview, io.BytesIO, bytes])
def test_a_picture_may_be_any_buffer_or_open_file(server: Server, make: Any) -> None:
    data = png(random_picture(4))
    with Client(server.url) as client:
        expected = client.predict(data)
        assert client.predict(make(data)) == expected
        assert client.predict([make(data), data]) == [expected, expected]


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("x")
    with file.open() as opened, pytest.raises(ValueError, match="'rb'"):
        encoded(opened)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dict is not a picture"):
        encoded({})  # type: ignore[arg-type]


def test_the_line_end_of_a_key_is_left_out_and_no_key_is_quoted(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGITSERVE_API_KEY", "secret123\r\n")
    with Client(server.url) as client:
        client.models()
        assert client._headers == {"X-API-Key": "secret123"}
    with pytest.raises(ValueError, match="not allowed in a header") as refused:
        Client(server.url, api_key="secret\n123")
    assert "secret" not in str(refused.value)
