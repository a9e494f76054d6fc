"""Triton's repository extension on real processes: index, load and unload in every worker."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from logitserve.inference.repository import MODEL_FILE
from tests.e2e.process import Server, clean_environment, running
from tests.e2e.profiles import ADMIN_KEY
from tests.e2e.test_changing_models import (
    PATIENCE_SECONDS,
    Told,
    ask,
    in_every_worker,
    index,
    processes_of,
    publish,
    said,
    tells,
    wait_until,
    workers_of,
)

WITH_KEY = clean_environment(LOGITSERVE_ADMIN_KEY=ADMIN_KEY)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models = tmp_path / "models"
    models.mkdir()
    publish(models, 1)
    publish(models, 2, name="other")
    return models


def order(server: Server, what: str, body: bytes = b"") -> httpx.Response:
    """POST /v2/repository/models/… with the admin key."""
    return httpx.post(
        f"{server.url}/v2/repository/models/{what}",
        headers={"Authorization": f"Bearer {ADMIN_KEY}"},
        content=body,
        timeout=PATIENCE_SECONDS,
    )


def answers(status: int) -> Callable[[Told], bool]:
    return lambda told: told.status == status


def test_an_order_is_done_in_every_worker_and_outlives_them(folder: Path) -> None:
    """When it is answered, no worker answers otherwise; nor does one that is started later."""
    options = ("--models", str(folder), "--default-model", "tiny", "--workers", "2")
    with (
        running(*options, environment=WITH_KEY) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        assert in_every_worker(server, tells("1"))
        done = order(server, "tiny/unload", b'{"parameters": {"unload_dependents": false}}')
        assert (done.status_code, done.content) == (200, b"")
        assert in_every_worker(server, answers(404))
        assert "/v2/repository/models/tiny/load" in ask(client).json()["detail"]
        assert client.get("/readyz").status_code == 200  # the other model answers
        assert index(client) == {"other/2": "READY", "tiny/1": "UNAVAILABLE"}
        assert client.get("/models").json()["unavailable"][0]["name"] == "tiny"
        before = workers_of(server)
        processes_of(server)[0].kill()
        wait_until(lambda: len(workers_of(server) - before) == 1)
        assert in_every_worker(server, answers(404))
        assert order(server, "tiny/load").status_code == 200
        assert in_every_worker(server, tells("1"))
        assert index(client, ready=True) == {"other/2": "READY", "tiny/1": "READY"}


def test_nothing_is_loaded_but_by_order_where_the_folder_is_not_watched(folder: Path) -> None:
    options = ("--models", str(folder), "--default-model", "tiny", "--workers", "2")
    with running(*options, "--watch-seconds", "0", environment=WITH_KEY) as server:
        publish(folder, 3)
        assert in_every_worker(server, tells("1"))
        assert order(server, "tiny/load", b"{}").status_code == 200
        assert in_every_worker(server, tells("3"))
        (folder / "tiny/4").mkdir()
        (folder / "tiny/4" / MODEL_FILE).write_bytes(b"garbage")
        for tries in (1, 2):
            refused = order(server, "tiny/load")
            assert refused.status_code == 422
            assert "version 4: onnxruntime cannot load the file" in refused.json()["detail"]
            wait_until(functools.partial(said, server, tries))
            assert in_every_worker(server, tells("3"))
        shutil.rmtree(folder / "tiny/4")
        shutil.rmtree(folder / "tiny/3")
        assert order(server, "tiny/load").status_code == 200
        assert in_every_worker(server, tells("1"))


@pytest.mark.parametrize(
    ("what", "body", "status", "detail"),
    [
        ("cats/load", b"", 404, "no model 'cats'"),
        ("cats/unload", b"", 404, "no model 'cats'"),
        ("digits/load", b"{", 400, "not JSON"),
        ("digits/load", b"[]", 422, "must be an object"),
        ("digits/load", b'{"parameters": 3}', 422, "'parameters' must be an object"),
        (
            "digits/load",
            b'{"parameters": {"config": "{}"}}',
            422,
            "the files alone determine a model",
        ),
        ("digits/unload", b'{"parameters": {"config": "{}"}}', 422, "known: unload_dependents"),
    ],
)
def test_an_order_that_cannot_be_carried_out(
    locked: Server, what: str, body: bytes, status: int, detail: str
) -> None:
    refused = order(locked, what, body)
    assert (refused.status_code, detail in refused.json()["detail"]) == (status, True)
