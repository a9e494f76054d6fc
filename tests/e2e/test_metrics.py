"""Everything that is answered is counted, over workers and beyond the death of one."""

from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.e2e.conftest import VERSIONS, Weights
from tests.e2e.metrics import series, total, value, wait_until
from tests.e2e.process import Server, running
from tests.e2e.sockets import begun, connect, read_all
from tests.forms import FORMS, Ask, Form
from tests.tiny_models import png, random_picture

PNG = {"content-type": "image/png"}
ROUTE = "/models/{name}/predict"
CONNECTIONS = "connections"


@pytest.fixture(params=[1, 2])
def counted(request: pytest.FixtureRequest, server: Server, pair: Server) -> tuple[Server, int]:
    """A server that nobody else asks, and the number of its workers."""
    asked = server if request.param == 1 else pair
    wait_until(lambda: value(asked.url, "workers") == request.param)
    return asked, request.param


def post(server: Server, path: str, **options: Any) -> httpx.Response:
    """Over a connection of its own, so that any worker may get it."""
    headers = {**options.pop("headers", {}), "Connection": "close"}
    return server.client.post(path, headers=headers, **options)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_what_has_ended_is_not_in_progress(server: Server, strict: Server, form: Form) -> None:
    image = random_picture(0)
    form.send(server, Ask([image]))
    form.send(server, Ask([image], model="cats"))
    form.send(strict, Ask([image] * 2 if form.many else [image]))
    if form.over_http:
        begun(server, form, Ask([image])).close()
        with begun(strict, form, Ask([image])) as slow:
            assert read_all(slow).startswith(b"HTTP/1.1 408")
        with connect(server) as broken:
            broken.sendall(b"no HTTP\r\n\r\n")
            read_all(broken)
    for each in (server, strict):  # but the request for the metrics
        wait_until(lambda each=each: value(each.url, "requests_in_progress") == 1)  # type: ignore[misc]


def test_requests_add_up(counted: tuple[Server, int]) -> None:
    server, _ = counted
    before = series(server.url)
    for seed in range(30):
        assert post(server, "/predict", content=png(random_picture(seed)), headers=PNG).is_success
    for seed in range(7):
        picture = png(random_picture(seed))
        assert post(server, "/models/zero/predict", content=picture, headers=PNG).is_success
    assert post(server, "/predict", content=b"no picture", headers=PNG).status_code == 422
    assert post(server, "/models/none/predict", content=b"", headers=PNG).status_code == 404
    assert post(server, "/no/such/path").status_code == 404
    scrapes = [before]

    def is_settled() -> bool:
        """A worker counts what it has sent; the other one may be asked before it has."""
        scrapes.append(series(server.url))
        return scrapes[-1]["logitserve_requests_in_progress", frozenset()] == 1

    wait_until(is_settled)
    after = scrapes[-1]
    grown = {
        tuple(sorted(labels)): number - before.get((name, labels), 0)
        for (name, labels), number in after.items()
        if name == "logitserve_requests_total"
    }

    def asked(route: str, status: str, **model: str) -> float:
        return grown[
            tuple(
                sorted(
                    {"route": route, "status": status, "model": "", "version": "", **model}.items()
                )
            )
        ]

    assert asked("/predict", "200", model="digits", version="2") == 30
    assert asked("/predict", "422", model="digits", version="2") == 1
    assert asked(ROUTE, "200", model="zero", version="1") == 7
    assert asked(ROUTE, "404") == 1
    assert asked("other", "404") == 1
    assert asked("/metrics", "200") == len(scrapes) - 1


def test_histograms_agree_with_the_counters(counted: tuple[Server, int]) -> None:
    server, _ = counted
    for seed in range(5):
        post(server, "/predict", content=png(random_picture(seed)), headers=PNG)
    found = series(server.url)
    by_route: Counter[str] = Counter()
    for (name, labels), number in found.items():
        if name == "logitserve_requests_total" and number:
            by_route[dict(labels)["route"]] += int(number)
    for route, count in by_route.items():
        timed: Counter[str] = Counter()
        for (name, labels), number in found.items():
            if ("route", route) in labels and dict(labels).get("le") in {None, "+Inf"}:
                timed[name] += number  # type: ignore[assignment]
        assert timed["logitserve_request_seconds_count"] == count
        assert timed["logitserve_request_seconds_bucket"] == count
        assert 0 < timed["logitserve_request_seconds_sum"] < 60 * count
    digits = frozenset({("model", "digits")})
    pictures = found["logitserve_batch_size_sum", digits]
    assert found["logitserve_confidence_count", digits] == pictures
    assert total(server.url, "predictions_total", model="digits") == pictures
    assert found["logitserve_inference_seconds_count", digits] <= pictures
    assert found["logitserve_queue_pictures", digits] == 0


def test_labels_and_confidence_are_those_of_the_answers(counted: tuple[Server, int]) -> None:
    server, _ = counted
    before = series(server.url)
    said: Counter[str] = Counter()
    confidence = 0.0
    for start in range(0, 40, 8):
        files = [("file", png(random_picture(seed))) for seed in range(start, start + 8)]
        answer = post(server, "/models/warm/predict", files=files).json()
        for prediction in answer["predictions"]:
            said[prediction["label"]] += 1
            confidence += prediction["probability"]
    after = series(server.url)
    for label in "0123456789":
        labels = frozenset({("model", "warm"), ("version", "1"), ("label", label)})
        key = ("logitserve_predictions_total", labels)
        assert after[key] - before.get(key, 0) == said[label]
    key = ("logitserve_confidence_sum", frozenset({("model", "warm")}))
    assert after[key] - before.get(key, 0) == pytest.approx(confidence)


def test_what_is_known_is_counted(counted: tuple[Server, int]) -> None:
    server, _ = counted
    before = series(server.url)
    said: Counter[str] = Counter()
    for seed in range(40):
        picture = png(random_picture(seed))
        (prediction,) = post(server, "/models/doubtful/predict", content=picture).json()[
            "predictions"
        ]
        said[str(prediction["known"]).lower()] += 1
    after = series(server.url)
    for known in ("true", "false"):
        key = ("logitserve_known_total", frozenset({("model", "doubtful"), ("known", known)}))
        assert after[key] - before.get(key, 0) == said[known]


def test_what_runs_is_said_by_the_names_of_all_programs(counted: tuple[Server, int]) -> None:
    server, workers = counted
    found = series(server.url)
    (build,) = [dict(labels) for (name, labels) in found if name == "logitserve_build_info"]
    assert set(build) == {"version", "python", "onnxruntime"}
    none: frozenset[tuple[str, str]] = frozenset()
    first = min(child.create_time() for child in psutil.Process(server.process.pid).children())
    assert abs(found["process_start_time_seconds", none] - first) < 30
    assert found["process_cpu_seconds_total", none] > 0.1 * workers
    assert 10 * workers < found["process_open_fds", none] < found["process_max_fds", none]


def test_every_label_that_holds_counts(counted: tuple[Server, int]) -> None:
    server, _ = counted
    before = total(server.url, "predictions_total", model="scenes")
    labels = 0
    for seed in range(12):
        answer = post(
            server, "/models/scenes/predict", content=png(random_picture(seed)), headers=PNG
        )
        labels += len(answer.json()["predictions"][0]["labels"])
    assert labels > 12
    assert total(server.url, "predictions_total", model="scenes") - before == labels


def test_strangers_cannot_make_series(counted: tuple[Server, int]) -> None:
    server, workers = counted

    def ask(name: str) -> None:
        for path in (f"/models/{name}/predict", f"/{name}?y={name}", f"/v2/models/{name}/infer"):
            post(server, path, content=b"", headers=PNG)
        server.client.get(f"/models/digits%2F{name}/versions/{name}/report")

    for number in range(8 * workers):  # until each worker had each
        ask(f"first{number}")
    before = len(series(server.url))
    for number in range(10):
        ask(f"x{number}")
    assert len(series(server.url)) == before


def test_what_is_served(counted: tuple[Server, int]) -> None:
    server, workers = counted
    found = series(server.url)
    served = [
        dict(labels) for (name, labels), number in found.items() if name == "logitserve_model_info"
    ]
    assert sorted(f"{model['model']}/{model['version']}" for model in served) == sorted(VERSIONS)
    assert all(len(model["sha256"]) == 64 for model in served)
    assert value(server.url, "workers") == workers
    assert value(server.url, "ready") == 1
    assert value(server.url, "resident_bytes") > workers * 2**20
    assert value(server.url, "model_load_failures_total", model="digits") == 0


def test_what_no_app_answers_is_counted_too(counted: tuple[Server, int]) -> None:
    server, _ = counted
    before = total(server.url, "requests_total", route="other", status="400")
    for request in (b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\r\n\r\n"):
        with connect(server) as connection:
            connection.sendall(request)
            assert connection.recv(100).startswith(b"HTTP/1.1 400")
    after = total(server.url, "requests_total", route="other", status="400")
    assert after - before == 2


def test_connections(counted: tuple[Server, int]) -> None:
    server, _ = counted
    before = value(server.url, CONNECTIONS)  # and that of the question
    with connect(server), connect(server):
        wait_until(lambda: value(server.url, CONNECTIONS) == before + 2)
    wait_until(lambda: value(server.url, CONNECTIONS) == before)


def test_open_metrics(counted: tuple[Server, int]) -> None:
    server, _ = counted
    response = server.client.get(
        "/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    families = {family.name for family in text_string_to_metric_families(response.text)}
    assert {"logitserve_requests", "logitserve_request_seconds"} <= families


def test_a_killed_worker_takes_no_count_with_it(
    models: tuple[Path, Weights],
) -> None:
    digits = {"route": "/predict", "model": "digits", "version": "2", "status": "200"}
    with running("--models", str(models[0]), "--workers", "2") as server:
        wait_until(lambda: value(server.url, "workers") == 2)
        asked = 0
        for _ in range(2):
            for seed in range(20):
                post(server, "/predict", content=png(random_picture(seed)), headers=PNG)
            asked += 20
            assert value(server.url, "requests_total", **digits) == asked
            kill_one(server)
            assert value(server.url, "workers") <= 2
            assert value(server.url, "requests_total", **digits) == asked
            wait_until(lambda: value(server.url, "workers") == 2)
            assert value(server.url, "requests_total", **digits) == asked


def kill_one(server: Server) -> None:
    children = psutil.Process(server.process.pid).children()
    victim = next(child for child in children if "resource_tracker" not in str(child.cmdline()))
    victim.kill()
    wait_until(lambda: not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE)
