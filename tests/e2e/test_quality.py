"""Quality over two workers against an independent computation, and what the store promises."""

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import numpy.typing as npt
import psutil
import pytest
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, f1_score, log_loss

from logitserve_service.monitoring.store_writer import ROWS_A_SECOND
from tests import tiny_models
from tests.e2e.metrics import total, value, wait_until
from tests.e2e.process import Server
from tests.e2e.test_receipts import ids_of, keeping, kept
from tests.forms import FORMS, Ask
from tests.service.monitoring.pictures import reference_of
from tests.tiny_models import DIGIT_LABELS, linear_logits, png, random_picture

KEY = "api-key-of-this-test"
COUNT = ROWS_A_SECOND
"""Answers of which none is sampled out, however fast they come."""


class Labeled(NamedTuple):
    """Pictures that were answered, and what they are said to show."""

    server: Server
    store: Path
    ids: list[str]
    probabilities: npt.NDArray[np.float64]
    truth: npt.NDArray[np.int64]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, npt.NDArray[np.float32]]:
    folder = tmp_path_factory.mktemp("models")
    metrics = {"accuracy": 0.99}
    usual = reference_of(np.stack([random_picture(seed) for seed in range(1000, 3000)]), seed=1)
    fields: dict[str, Any] = {"metrics": metrics, "reference": usual}
    return folder, tiny_models.publish(folder, name="digits", seed=1, **fields)


@pytest.fixture(scope="module")
def labeled(
    folder: tuple[Path, npt.NDArray[np.float32]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Labeled]:
    store = tmp_path_factory.mktemp("store") / "store.db"
    images = [random_picture(seed) for seed in range(COUNT)]
    logits = linear_logits(np.stack(images), folder[1])
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = powers / powers.sum(axis=1, keepdims=True)
    generator = np.random.default_rng(3)
    truth = np.where(
        generator.random(COUNT) < 0.8, p.argmax(axis=1), generator.integers(10, size=COUNT)
    )
    forms = [form for form in FORMS if "/v1/" not in form.path]
    with keeping(folder[0], store) as server:
        ids: list[str] = []
        while len(ids) < COUNT:
            form = forms[len(ids) % len(forms)]
            part = images[len(ids) : len(ids) + (7 if form.many else 1)]
            ids += ids_of(form, form.send(server, Ask(part)))
        wait_until(lambda: len(kept(store)) == COUNT)
        order = generator.permutation(COUNT).tolist()
        for start in range(0, COUNT, 50):
            labels = [
                {"id": ids[row], "label": DIGIT_LABELS[truth[row]]}
                for row in order[start : start + 50]
            ]
            for _ in range(2):
                server.client.post("/feedback", json=labels).raise_for_status()
        yield Labeled(server, store, ids, p, truth)


def quality(server: Server, query: str = "") -> dict[str, Any]:
    response = server.client.get(f"/models/digits/quality{query}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_it_is_what_others_compute(labeled: Labeled) -> None:
    found = quality(labeled.server)
    assert (found["model"], found["version"]) == ("digits", "1")
    assert found["answers"] == found["labels"] == COUNT
    said, truth = labeled.probabilities.argmax(axis=1), labeled.truth
    measures = found["measures"]
    right = int((said == truth).sum())
    interval = binomtest(right, COUNT).proportion_ci(0.95, method="wilson")
    accuracy = measures["accuracy"]
    assert accuracy["n"] == COUNT
    assert accuracy["naive"] == pytest.approx(
        {"value": right / COUNT, "low": interval.low, "high": interval.high}, abs=1e-6
    )
    assert accuracy["weighted"]["value"] == pytest.approx(right / COUNT), "all are labeled"
    expected = log_loss(truth, labeled.probabilities, labels=range(10))
    assert measures["nll"]["naive"]["value"] == pytest.approx(expected, rel=2e-3)
    f1 = f1_score(truth, said, average=None, labels=range(10))
    for label, figure in zip(DIGIT_LABELS, f1, strict=True):
        assert measures[f"f1 {label}"]["naive"]["value"] == pytest.approx(figure)
    matrix = confusion_matrix(truth, said, labels=range(10))
    counted = [[found["confusion"].get(t, {}).get(s, 0) for s in DIGIT_LABELS]
               for t in DIGIT_LABELS]  # fmt: skip
    np.testing.assert_array_equal(counted, matrix)
    assert found["estimated"] == pytest.approx(labeled.probabilities.max(axis=1).mean())
    assert found["expected"] == 0.99
    assert found["alarm"] is True


def test_it_is_in_the_metrics(labeled: Labeled) -> None:
    of = {"model": "digits", "version": "1", "measure": "accuracy"}
    url = labeled.server.url
    wait_until(lambda: value(url, "quality_labels", **of) == COUNT)
    weighted = quality(labeled.server)["measures"]["accuracy"]["weighted"]
    for name, end in (("quality", "value"), ("quality_low", "low"), ("quality_high", "high")):
        assert value(url, name, **of) == pytest.approx(weighted[end])
    assert value(url, "quality", **{**of, "measure": "expected"}) == 0.99


def test_the_window_the_version_and_the_model_are_asked_for(labeled: Labeled) -> None:
    client = labeled.server.client
    assert quality(labeled.server, "?window=1h&version=1")["labels"] == COUNT
    for path, status, says in (
        ("digits/quality?window=week", 422, "such as 12h, 7d or 4w"),
        ("digits/quality?windw=7d", 422, "did you mean 'window'?"),
        ("digits/quality?version=2", 404, "no version '2' of 'digits' in the store"),
        ("digit/quality", 404, "did you mean 'digits'?"),
    ):
        response = client.get(f"/models/{path}")
        assert response.status_code == status
        assert says in response.json()["detail"]


def test_labels_for_another_replicas_answers_count_by_their_ids(
    labeled: Labeled, folder: tuple[Path, npt.NDArray[np.float32]], tmp_path: Path
) -> None:
    labels = [
        {"id": of, "label": DIGIT_LABELS[truth]}
        for of, truth in zip(labeled.ids, labeled.truth, strict=True)
    ]
    with keeping(folder[0], tmp_path / "store.db") as other:
        assert other.client.post("/feedback", json=labels).json()["accepted"] == COUNT
        found = quality(other)
    here = quality(labeled.server)
    assert (found["answers"], found["labels"]) == (0, COUNT)
    for name in ("accuracy", "f1 3", "ece"):
        assert found["measures"][name]["naive"]["value"] == pytest.approx(
            here["measures"][name]["naive"]["value"], abs=0.01
        )
    assert found["measures"]["accuracy"]["weighted"] is None
    assert found["confusion"] == here["confusion"]
    assert found["not_estimated"] == "only 0 answers are stored; at least 100 are needed"


def answer(server: Server, seed: int = 0) -> httpx.Response:
    response = server.client.post("/predict", content=png(random_picture(seed)))
    assert response.status_code == 200, response.text
    return response


def sent_until_dropped(server: Server, least: int, *, reason: str) -> int:
    """Ask, and be answered, until so many rows were dropped; the number of answers."""
    numbers = count()

    def dropped() -> float:
        answer(server, next(numbers))
        return total(server.url, "store_dropped_total", reason=reason)

    wait_until(lambda: dropped() >= least)
    return next(numbers)


def kept_or_dropped(server: Server) -> float:
    return total(server.url, "store_rows_total") + total(server.url, "store_dropped_total")


def test_a_locked_store_loses_rows_and_no_answer(
    folder: tuple[Path, npt.NDArray[np.float32]], tmp_path: Path
) -> None:
    store = tmp_path / "store.db"
    with keeping(folder[0], store) as server:
        with closing(sqlite3.connect(store, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            sent = sent_until_dropped(server, 1, reason="locked")
        wait_until(lambda: kept_or_dropped(server) == sent)
        assert total(server.url, "store_rows_total") == len(kept(store))


def test_a_full_disk_loses_rows_and_no_answer(
    folder: tuple[Path, npt.NDArray[np.float32]], tmp_path: Path
) -> None:
    store = tmp_path / "store.db"
    options = ("--keep-pictures", "all")
    with keeping(folder[0], store, *options) as server:
        for child in psutil.Process(server.process.pid).children():
            resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
        sent = sent_until_dropped(server, 21, reason="disk")
        wait_until(lambda: kept_or_dropped(server) == sent)
        response = server.client.post("/feedback", json={"id": answer(server).headers[
            "X-Prediction-ID"], "label": "7"})  # fmt: skip
        assert response.status_code in {200, 503}
    with closing(sqlite3.connect(store)) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_killed_workers_leave_the_store_whole(
    folder: tuple[Path, npt.NDArray[np.float32]], tmp_path: Path
) -> None:
    store = tmp_path / "store.db"
    with keeping(folder[0], store) as server:
        for number in range(60):
            answer(server, number)
        wait_until(lambda: len(kept(store)) == 60)
        for number in range(60):
            answer(server, number)
        for child in psutil.Process(server.process.pid).children():
            child.kill()
        wait_until(lambda: total(server.url, "workers") == 2)
        before = len(kept(store))
        assert before >= 60
        wait_until(lambda: bool(answer(server)) and len(kept(store)) > before)
        with closing(sqlite3.connect(store)) as opened:
            assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_neither_keys_nor_headers_nor_names_nor_exif_are_kept(
    folder: tuple[Path, npt.NDArray[np.float32]], tmp_path: Path
) -> None:
    image = Image.fromarray(random_picture(0)[:, :, 0])
    exif = image.getexif()
    exif[0x010E] = "described-in-exif"
    file = tiny_models.encode(image, "JPEG", exif=exif)
    store = tmp_path / "store/store.db"
    store.parent.mkdir()
    options = ("--keep-pictures", "all")
    with keeping(folder[0], store, *options, LOGITSERVE_API_KEY=KEY) as server:
        headers = {"X-API-Key": KEY, "X-Request-ID": "id-of-request", "User-Agent": "agent-of-test"}
        headers["X-Forwarded-For"] = "203.0.113.77"
        posted = server.client.post(
            "/predict", files={"file": ("name-of-file.jpg", file, "image/jpeg")}, headers=headers
        )
        (prediction,) = posted.json()["predictions"]
        label = {"id": prediction["id"], "label": "7", "source": "Ada"}
        assert server.client.post("/feedback", json=label, headers=headers).status_code == 200
        wait_until(lambda: len(kept(store)) == 1)
        content = b"".join(path.read_bytes() for path in store.parent.iterdir())
    assert b"Ada" in content
    for secret in (
        *(KEY, "id-of-request", "agent-of-test", "203.0.113.77", "127.0.0.1", "name-of-file"),
        *("described-in-exif", prediction["id"]),
    ):
        assert secret.encode() not in content, secret
    assert file[100:160] not in content
    with closing(sqlite3.connect(store)) as opened:
        ((png_kept,),) = opened.execute("SELECT png FROM picture")
    assert png_kept.startswith(b"\x89PNG")
