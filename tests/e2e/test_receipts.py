"""Ids of predictions, and what is kept of them: two workers, every form."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from logitserve_service.config.keys import Keys
from logitserve_service.monitoring.receipts import Receipts, model_key, receipt_of
from tests.e2e.conftest import Weights
from tests.e2e.metrics import total, wait_until
from tests.e2e.process import Server, clean_environment, running
from tests.forms import FORMS, Ask, Form, Reply, v2_outputs
from tests.tiny_models import linear_logits, png, random_picture

SIGNING = "a-secret-of-all-replicas"
HEADER = "X-Prediction-ID"
IMAGES = [random_picture(seed) for seed in range(70, 73)]


@contextmanager
def keeping(folder: Path, store: Path, *options: str, **environment: str) -> Iterator[Server]:
    """A server of two workers with a store."""
    with running(
        *("--models", str(folder), "--workers", "2", "--grpc-port", "0", "--store", str(store)),
        *options,
        environment=clean_environment(LOGITSERVE_RECEIPTS_KEY=SIGNING, **environment),
    ) as server:
        yield server


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "store.db"


@pytest.fixture(scope="module")
def keeper(models: tuple[Path, Weights], store: Path) -> Iterator[Server]:
    with keeping(models[0], store) as server:
        yield server


def ids_of(form: Form, reply: Reply) -> list[str]:
    """The ids that a reply carries, where its form has them."""
    if not form.over_http:
        return str(reply.message.parameters["prediction_id"].string_param).split(",")
    if "/v2/" in form.path:
        return str(v2_outputs(reply)[0]["parameters"]["prediction_id"]).split(",")
    if "/v1/" in form.path:
        return [reply.headers[HEADER]]
    return [prediction["id"] for prediction in json.loads(reply.body)["predictions"]]


def kept(store: Path) -> dict[bytes, tuple[int, float]]:
    with closing(sqlite3.connect(store)) as opened:
        return {of: (argmax, p) for of, argmax, p in opened.execute(
            "SELECT id, argmax, probability FROM answer")}  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form_gives_ids_of_what_it_answered(
    keeper: Server, form: Form, weights: Weights, store: Path
) -> None:
    images = IMAGES if form.many and "/v1/" not in form.path else IMAGES[:1]
    reply = form.send(keeper, Ask(images))
    assert reply.status == 200, reply
    ids = ids_of(form, reply)
    assert len(ids) == len(images)
    if form.over_http:
        assert reply.headers.get(HEADER) == (ids[0] if len(ids) == 1 else None)
    logits = linear_logits(np.stack(images), weights["digits/2"])
    expected = logits.argmax(axis=1).tolist()
    receipts = Receipts(Keys.of_text(SIGNING).secrets)
    raw = [of for of in map(receipts.read, ids) if of is not None]
    assert [receipt_of(of).argmax for of in raw] == expected
    assert {receipt_of(of).model for of in raw} == {model_key("digits", "2")}
    wait_until(lambda: set(raw) <= kept(store).keys())
    powers = np.exp(logits)
    of_store = [kept(store)[of] for of in raw]
    assert [argmax for argmax, _ in of_store] == expected
    np.testing.assert_allclose(
        [p for _, p in of_store], (powers / powers.sum(axis=1, keepdims=True)).max(axis=1), 1e-4
    )


def test_an_id_is_of_calibrated_values_whatever_was_asked(keeper: Server) -> None:
    found = []
    for query in ("calibrated=false", "calibrated=true"):
        asked = keeper.client.post(f"/models/warm/predict?{query}", content=png_of(IMAGES[0]))
        (prediction,) = asked.json()["predictions"]
        raw = Receipts(Keys.of_text(SIGNING).secrets).read(prediction["id"])
        assert raw is not None
        found.append((prediction["probability"], receipt_of(raw).log_odds))
    assert found[0][0] != found[1][0]
    assert found[0][1] == found[1][1]


def png_of(image: np.typing.NDArray[np.uint8]) -> bytes:
    return png(image)


@pytest.mark.parametrize("form", [FORMS[0], FORMS[-1]], ids=str)
def test_nothing_is_kept_of_a_request_that_forbids_it(
    keeper: Server, form: Form, store: Path
) -> None:
    private = ids_of(form, form.send(keeper, Ask(IMAGES[:1], fields=[("X-No-Store", "1")])))
    public = ids_of(form, form.send(keeper, Ask(IMAGES[:1])))
    read = Receipts(Keys.of_text(SIGNING).secrets).read
    (hidden,), (seen,) = map(read, private), map(read, public)
    assert hidden is not None
    wait_until(lambda: seen in kept(store))
    assert hidden not in kept(store)
    assert receipt_of(hidden).chance == -1
    assert receipt_of(seen or b"").chance == 1


def test_more_than_a_batch_have_an_id_each(keeper: Server) -> None:
    files = [("file", ("a.png", png_of(IMAGES[0])))] * 150
    rows = keeper.client.post("/models/digits/predict", files=files).json()["predictions"]
    assert len({row["id"] for row in rows}) == 150


def test_without_receipts_there_are_none(server: Server) -> None:
    response = httpx.post(f"{server.url}/models/digits/predict", content=png_of(IMAGES[0]))
    assert HEADER not in response.headers
    assert "id" not in response.json()["predictions"][0]
    assert total(server.url, "store_bytes") == 0
    assert "logitserve_store" not in httpx.get(f"{server.url}/metrics").text


def test_ids_without_a_key_end_with_the_service_which_says_so(models: tuple[Path, Weights]) -> None:
    found = []
    for _ in range(2):
        with running("--models", str(models[0]), "--receipts", "true") as server:
            posted = server.client.post("/models/digits/predict", content=png_of(IMAGES[0]))
            found.append(posted.json()["predictions"][0]["id"])
            said = "valid only until this service stops, because LOGITSERVE_RECEIPTS_KEY is not set"
            assert any(said in line for line in server.log)
    assert found[0] != found[1]


def test_what_is_kept_is_counted(keeper: Server, store: Path) -> None:
    wait_until(lambda: total(keeper.url, "store_rows_total") == len(kept(store)))
    assert total(keeper.url, "store_dropped_total") == 0
    wait_until(lambda: total(keeper.url, "store_bytes") > 0)
