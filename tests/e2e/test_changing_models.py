"""Versions come and go while the real process answers."""

import functools
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import psutil
import pytest

from logitserve.inference.repository import MODEL_FILE
from tests import tiny_models
from tests.e2e import metrics
from tests.e2e.problems import detail_of
from tests.e2e.process import Server, running
from tests.forms import FORMS, Ask
from tests.tiny_models import SPEC, card_for, linear_graph, png, random_picture, with_card

pytestmark = pytest.mark.drill

SWAP_SECONDS = 5
"""What is promised: a new version answers in every worker within so long."""

PATIENCE_SECONDS = 30
LABELS = tuple(f"label {k}" for k in range(25))
PICTURE = png(random_picture(5))
HEADERS = {"content-type": "image/png"}


def draft(folder: Path, k: int, *, name: str = "tiny", **card: Any) -> Path:
    """A model file that says `label k` of any picture, so that an answer tells who gave it."""
    matrix = np.zeros((int(np.prod(SPEC.shape)), len(LABELS)), np.float32)
    matrix[:, k] = 0.5  # random pictures are never black
    described = card_for(matrix, name=name, version=str(k), labels=LABELS, **card)
    path = folder / f"{name}-{k}.onnx"
    onnx.save(with_card(linear_graph(SPEC, matrix), described.to_json()), path)
    return path


def publish(models: Path, k: int, *, name: str = "tiny") -> Path:
    """Put version k in its place by one rename, as `publication` does."""
    parent = models / name
    parent.mkdir(exist_ok=True)
    staging = parent / f".staging-{k}"
    staging.mkdir()
    draft(staging, k, name=name).rename(staging / MODEL_FILE)
    return staging.rename(parent / str(k)) / MODEL_FILE


def ask(client: httpx.Client, path: str = "predict") -> httpx.Response:
    return client.post(f"/{path}", content=PICTURE, headers=HEADERS)


@dataclass(frozen=True)
class Told:
    """What a worker answered."""

    worker: str
    """Of the process; the ids that it gives to requests begin with it."""
    status: int
    version: str = ""


def told_by(connection: HTTPConnection) -> Told:
    """Ask for the default model's answer."""
    connection.request("POST", "/predict", PICTURE, HEADERS)
    response = connection.getresponse()
    answer = json.loads(response.read())
    worker = (response.headers["X-Request-ID"] or "").partition("-")[0]
    if response.status != 200:
        return Told(worker, response.status)
    assert answer["predictions"][0]["label"] == f"label {answer['version']}"
    return Told(worker, response.status, answer["version"])


def connected(server: Server) -> HTTPConnection:
    host, port = server.url.removeprefix("http://").split(":")
    return HTTPConnection(host, int(port), timeout=PATIENCE_SECONDS)


def tell(server: Server) -> Told:
    with closing(connected(server)) as connection:
        return told_by(connection)


def version_of(response: httpx.Response) -> str:
    """The version that an answer names; its weights must be that version's."""
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["predictions"][0]["label"] == f"label {answer['version']}"
    version: str = answer["version"]
    return version


def wait_until(holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> float:
    """Wait for a state; the seconds that it took."""
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() < begun + seconds, "not within time"
        time.sleep(0.02)
    return time.monotonic() - begun


def in_every_worker(server: Server, holds: Callable[[Told], bool], workers: int = 2) -> bool:
    """Whether it holds of what each worker tells; new connections are made until all have."""
    told: dict[str, bool] = {}
    for _ in range(500):
        answer = tell(server)
        told[answer.worker] = holds(answer)
        if len(told) == workers:
            return all(told.values())
    raise AssertionError(f"only {len(told)} of {workers} workers answer")


def once(server: Server, holds: Callable[[httpx.Client], bool]) -> bool:
    with httpx.Client(base_url=server.url, timeout=PATIENCE_SECONDS) as client:
        return holds(client)


def serves(version: str) -> Callable[[httpx.Client], bool]:
    return lambda client: version_of(ask(client)) == version


def tells(version: str) -> Callable[[Told], bool]:
    return lambda told: told.version == version


def said(server: Server, count: int) -> bool:
    return len(refusals(server)) == count


def refusals(server: Server) -> list[str]:
    return [line for line in server.log if "is refused" in line]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    publish(folder, 1)
    return folder


@contextmanager
def serving(models: Path, *options: str, workers: int = 1) -> Iterator[Server]:
    started = ("--models", str(models), "--watch-seconds", "0.1", "--workers", str(workers))
    with running(*started, *options) as server:
        wait_until(lambda: httpx.get(f"{server.url}/readyz").status_code == 200)
        yield server


class Load:
    """Clients that ask without a pause, and keep what they were told."""

    def __init__(self, server: Server, clients: int = 4) -> None:
        self._server = server
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._asking = [self._pool.submit(self._ask) for _ in range(clients)]

    def _ask(self) -> list[Told]:
        told = []
        while not self._stop.is_set():
            # A new connection now and then reaches every worker.
            with closing(connected(self._server)) as connection:
                told += [told_by(connection) for _ in range(20)]
        return told

    def end(self) -> list[Told]:
        """What all were told; an error of any of them is raised here."""
        self._stop.set()
        with self._pool:
            return [told for asking in self._asking for told in asking.result()]


def test_twenty_versions_in_a_row_lose_nothing(models: Path) -> None:
    """Each is seen in both workers in time, and each answer is of one version."""
    with serving(models, workers=2) as server:
        load = Load(server)
        for k in range(2, 22):
            publish(models, k)
            swapped = tells(str(k))
            wait_until(functools.partial(in_every_worker, server, swapped), SWAP_SECONDS)
        told = load.end()
    assert {answer.status for answer in told} == {200}
    assert {answer.version for answer in told} == {str(k) for k in range(1, 22)}
    assert len({answer.worker for answer in told}) == 2
    assert "Traceback" not in "".join(server.log)


def half(path: Path) -> bytes:
    return path.read_bytes()[: path.stat().st_size // 2]


def wrong_goldens(path: Path) -> bytes:
    """The graph of another version under this one's card."""
    other = onnx.load(path)
    other.graph.initializer[1].CopyFrom(
        onnx.numpy_helper.from_array(
            tiny_models.weights(SPEC, len(LABELS), seed=3), other.graph.initializer[1].name
        )
    )
    data: bytes = other.SerializeToString()
    return data


def wrong_card(path: Path) -> bytes:
    """A card of two labels over a graph of many logits."""
    model = onnx.load(path)
    card = card_for(np.zeros((784, 2), np.float32), version="2", labels=("a", "b"))
    data: bytes = with_card(model, card.to_json()).SerializeToString()
    return data


SPOILED: tuple[tuple[Callable[[Path], bytes], str], ...] = (
    (half, "onnxruntime cannot load the file"),
    (lambda _: b"", "onnxruntime cannot load the file"),
    (lambda _: b"garbage" * 1000, "onnxruntime cannot load the file"),
    (wrong_goldens, "does not reproduce the recorded logits"),
    (wrong_card, "'logits' is tensor(float)"),
)


def test_what_is_broken_is_refused_once_and_tried_again_when_it_is_mended(
    models: Path, tmp_path: Path
) -> None:
    with serving(models) as server, httpx.Client(base_url=server.url) as client:
        for k, (spoil, reason) in enumerate(SPOILED, 2):
            good = draft(tmp_path, k)
            target = models / f"tiny/{k}" / MODEL_FILE
            target.parent.mkdir()
            target.write_bytes(spoil(good))
            wait_until(functools.partial(said, server, k - 1))
            state = client.get("/models/tiny").json()["folder"][-1]
            assert (state["version"], state["state"]) == (str(k), "UNAVAILABLE")
            assert reason in state["reason"]
            assert str(tmp_path) not in client.get("/models").text
            assert version_of(ask(client)) == str(k - 1)
            asked = ask(client, f"models/tiny/versions/{k}/predict")
            assert (asked.status_code, reason in asked.json()["detail"]) == (503, True)
            target.write_bytes(good.read_bytes())
            wait_until(functools.partial(serves(str(k)), client), SWAP_SECONDS)
            assert client.get("/models/tiny").json()["folder"][-1]["reason"] == ""
    assert len(refusals(server)) == len(SPOILED)


def test_a_refusal_is_said_once(models: Path) -> None:
    """By one worker, and not again as long as the file stays as it is."""
    with serving(models, workers=2) as server:
        target = models / "tiny/2" / MODEL_FILE
        target.parent.mkdir()
        target.write_bytes(b"garbage")
        wait_until(lambda: in_every_worker(server, tells("1")) and bool(refusals(server)))
        publish(models, 3)  # what is published later has been looked at later
        wait_until(lambda: in_every_worker(server, tells("3")))
        publish(models, 4)
        wait_until(lambda: in_every_worker(server, tells("4")))
        counted = "model_load_failures_total"
        wait_until(lambda: metrics.value(server.url, counted, model="tiny") == 1)
    assert len(refusals(server)) == 1


def test_a_file_that_is_being_copied_is_waited_for(models: Path, tmp_path: Path) -> None:
    data = draft(tmp_path, 2).read_bytes()
    (models / "tiny/2").mkdir()
    # Looked at more seldom than it grows.
    with (
        serving(models, "--watch-seconds", "1") as server,
        httpx.Client(base_url=server.url) as client,
    ):
        with (models / "tiny/2" / MODEL_FILE).open("wb") as file:
            for start in range(0, len(data), len(data) // 15):
                file.write(data[start : start + len(data) // 15])
                file.flush()
                assert version_of(ask(client)) == "1"
                time.sleep(0.1)  # grows slowly, as over a slow line
        wait_until(lambda: serves("2")(client), SWAP_SECONDS)
    assert refusals(server) == []


def test_a_version_that_is_overwritten_is_loaded_again(models: Path, tmp_path: Path) -> None:
    def sha256(client: httpx.Client) -> str:
        (state,) = client.get("/models/tiny").json()["folder"]
        found: str = state["sha256"]
        return found

    other = draft(tmp_path, 1, description="The same weights, told otherwise.")
    with serving(models) as server, httpx.Client(base_url=server.url) as client:
        path = models / "tiny/1" / MODEL_FILE
        before = sha256(client)
        path.write_bytes(other.read_bytes())
        wait_until(lambda: sha256(client) != before, SWAP_SECONDS)
        described = client.get("/models/tiny").json()["card"]["description"]
        assert described == "The same weights, told otherwise."
        path.write_bytes(b"spoiled")
        wait_until(lambda: bool(refusals(server)))
        (state,) = client.get("/models/tiny").json()["folder"]
        assert state["state"] == "READY"
        assert "overwritten" in state["reason"]
        assert version_of(ask(client)) == "1"


def test_versions_and_models_that_are_removed_go(models: Path) -> None:
    publish(models, 2)
    publish(models, 3, name="other")
    options = ("--default-model", "tiny", "--grpc-port", "0")
    with serving(models, *options, workers=2) as server:
        assert server.grpc_address
        for removed, left in (("tiny/2", "1"), ("tiny/1", "")):
            shutil.rmtree(models / removed)
            holds = tells(left) if left else lambda told: told.status == 404
            wait_until(functools.partial(in_every_worker, server, holds), SWAP_SECONDS)
        with httpx.Client(base_url=server.url) as client:
            assert "no model 'tiny'; there is other" in ask(client).json()["detail"]
            assert client.get("/readyz").status_code == 200
            shutil.rmtree(models / "other")
            wait_until(lambda: client.get("/readyz").status_code == 503, SWAP_SECONDS)
            away = functools.partial(in_every_worker, server, lambda told: told.status == 503)
            wait_until(away, SWAP_SECONDS)
            for form in FORMS:
                reply = form.send(server, Ask([random_picture(5)], model="other"))
                assert reply.status == 503, form
                assert not form.over_http or reply.headers["retry-after"]
                assert detail_of(form, reply)
            publish(models, 4)
            wait_until(lambda: client.get("/readyz").status_code == 200, SWAP_SECONDS)
            wait_until(lambda: in_every_worker(server, tells("4")), SWAP_SECONDS)


def test_a_folder_that_is_away_has_not_been_emptied(models: Path) -> None:
    with serving(models) as server, httpx.Client(base_url=server.url) as client:
        models.rename(models.with_name("away"))
        wait_until(lambda: any("cannot be read" in line for line in server.log))
        assert version_of(ask(client)) == "1"
        models.with_name("away").rename(models)
        publish(models, 2)
        wait_until(lambda: serves("2")(client), SWAP_SECONDS)
    assert sum("cannot be read" in line for line in server.log) == 1


def test_the_policy_chooses_versions(models: Path) -> None:
    for k in (2, 3):
        publish(models, k)
    with serving(models) as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/models/tiny").json()["versions"] == ["3"]
        older = ask(client, "models/tiny/versions/2/predict")
        assert older.status_code == 404
        assert "LOGITSERVE_VERSION_POLICY" in older.json()["detail"]
    with serving(models, "--version-policy", "tiny=2") as server:
        publish(models, 4)
        wait_until(lambda: once(server, lambda c: len(index(c)) == 4), SWAP_SECONDS)
        assert once(server, serves("2"))
        shutil.rmtree(models / "tiny/2")
        wait_until(lambda: once(server, lambda c: ask(c).status_code == 503), SWAP_SECONDS)
        assert once(server, lambda c: "LOGITSERVE_VERSION_POLICY" in ask(c).json()["detail"])


def index(client: httpx.Client, **body: bool) -> dict[str, str]:
    entries = client.post("/v2/repository/index", json=body).json()
    return {f"{entry['name']}/{entry['version']}": entry["state"] for entry in entries}


def test_a_worker_that_is_replaced_serves_what_is_good(models: Path) -> None:
    with serving(models, workers=2) as server:
        (models / "tiny/2").mkdir()
        (models / "tiny/2" / MODEL_FILE).write_bytes(b"garbage")
        (models / "bad/1").mkdir(parents=True)
        (models / "bad/1" / MODEL_FILE).write_bytes(b"garbage")
        wait_until(lambda: len(refusals(server)) == 2)
        before = workers_of(server)
        (children := processes_of(server))[0].kill()
        wait_until(lambda: {*processes_of(server)} - {*children} != set())
        wait_until(lambda: len(workers_of(server) - before) == 1)
        assert in_every_worker(server, tells("1"))
    assert len(refusals(server)) == 2


def processes_of(server: Server) -> list[psutil.Process]:
    """The workers, without what multiprocessing starts for itself."""
    children = psutil.Process(server.process.pid).children()
    alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in alive if "resource_tracker" not in " ".join(child.cmdline())]


def workers_of(server: Server, workers: int = 2) -> set[str]:
    """The workers that answer; none where one of them is gone and not yet replaced."""
    found: set[str] = set()
    try:
        for _ in range(500):
            found.add(tell(server).worker)
            if len(found) == workers:
                return found
    except OSError:
        pass
    return set()


def test_a_start_serves_the_newest_version_that_is_good(models: Path) -> None:
    (models / "tiny/2").mkdir()
    (models / "tiny/2" / MODEL_FILE).write_bytes(b"garbage")
    with serving(models, "--log-format", "json") as server:
        assert once(server, serves("1"))
        assert once(server, lambda c: index(c, ready=True) == {"tiny/1": "READY"})
    (line,) = refusals(server)
    record = json.loads(line)
    assert (record["level"], record["logger"]) == ("error", "logitserve.models")
    assert "tiny version 2 is refused" in record["message"]


def test_a_model_in_the_wrong_place_is_said_once_and_in_the_index(models: Path) -> None:
    with serving(models, workers=2) as server:
        for place in ("MNIST/1", "tiny/v1"):
            shutil.copytree(models / "tiny/1", models / place)

        def is_said() -> bool:
            return any("passed over: " in line for line in server.log)

        wait_until(is_said)
        wait_until(lambda: "MNIST" in server.client.post("/v2/repository/index").text)
        states = server.client.post("/v2/repository/index").json()
        reasons = {(each["name"], each["version"]): each["reason"] for each in states}
        assert "not a model name" in reasons["MNIST", "1"]
        assert "not a version" in reasons["tiny", "v1"]
        assert {each["state"] for each in states if each["reason"]} == {"UNAVAILABLE"}
        assert "MNIST" not in str(index(server.client, ready=True))
    (line,) = [line for line in server.log if "MNIST/1" in line and "tiny/v1" in line]
    assert "WARNING" in line
