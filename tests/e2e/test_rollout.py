"""Which versions answer, in every worker of a real service: promote, roll back, canary, shadow."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from logitserve.inference.rollout import ROLLOUT_FILE
from tests.background import repeated
from tests.e2e.metrics import total, value
from tests.e2e.process import Server, clean_environment, run, running
from tests.e2e.profiles import ADMIN_KEY
from tests.e2e.test_changing_models import (
    HEADERS,
    PATIENCE_SECONDS,
    PICTURE,
    in_every_worker,
    processes_of,
    publish,
    tell,
    tells,
    wait_until,
    workers_of,
)
from tests.forms import FORMS, Ask
from tests.tiny_models import png, random_picture

ROOT = Path(__file__).parents[2]
WITH_KEY = clean_environment(LOGITSERVE_ADMIN_KEY=ADMIN_KEY)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models = tmp_path / "models"
    models.mkdir()
    for version in (1, 2, 3):
        publish(models, version)
    return models


def options(folder: Path) -> tuple[str, ...]:
    return "--models", str(folder), "--workers", "2", "--watch-seconds", "0.1"


def order(server: Server, method: str, path: str, body: Any = None) -> httpx.Response:
    key = {"Authorization": f"Bearer {ADMIN_KEY}"}
    url = f"{server.url}/models/tiny/{path}"
    return httpx.request(method, url, headers=key, json=body, timeout=PATIENCE_SECONDS)


def test_a_version_is_live_until_another_is(folder: Path) -> None:
    with running(*options(folder), environment=WITH_KEY) as server:
        assert in_every_worker(server, tells("3"))
        done = order(server, "PUT", "rollout", {"live": "2"})
        assert done.status_code == 200, done.text
        assert in_every_worker(server, tells("2"))
        publish(folder, 4)
        wait_until(lambda: "4" in httpx.get(f"{server.url}/models/tiny").json()["versions"])
        assert in_every_worker(server, tells("2"))
        before = workers_of(server)
        processes_of(server)[0].kill()
        wait_until(lambda: len(workers_of(server) - before) == 1)
        assert in_every_worker(server, tells("2"))
        done = order(server, "POST", "rollback")
        assert done.status_code == 200, done.text
        assert done.json()["live"] == "3"  # which answered before; 4 never has
        assert in_every_worker(server, tells("3"))
        history = httpx.get(f"{server.url}/models/tiny/rollout").json()["history"]
        assert [change["live"] for change in history] == ["2", "3"]
        assert order(server, "PUT", "rollout", {"live": None}).status_code == 200
        assert in_every_worker(server, tells("4"))
    with running(*options(folder), environment=WITH_KEY) as server:
        assert in_every_worker(server, tells("4"))
        assert run("models", "promote", "tiny", "2", "--models", str(folder))[0] == 0
        wait_until(lambda: in_every_worker(server, tells("2")))


def test_promotions_under_load_lose_and_mix_nothing(folder: Path) -> None:
    with running(*options(folder), environment=WITH_KEY) as server:
        told: list[str] = []
        # `tell` checks that the weights are the version's.
        with repeated(lambda: told.append(tell(server).version), threads=4):
            for live in ("1", "2", "3") * 3:
                assert order(server, "PUT", "rollout", {"live": live}).status_code == 200
                assert in_every_worker(server, tells(live))
        assert set(told) == {"1", "2", "3"}
        assert total(server.url, "requests_total", status="200") == total(
            server.url, "requests_total", route="/predict"
        ) + total(server.url, "requests_total", route="/models/{name}/rollout")


def test_a_version_that_is_refused_does_not_become_live(folder: Path) -> None:
    (folder / "tiny/4").mkdir()
    (folder / "tiny/4/model.onnx").write_bytes(b"garbage")
    with running(*options(folder), environment=WITH_KEY) as server:
        assert order(server, "PUT", "rollout", {"live": "2"}).status_code == 200
        refused = order(server, "PUT", "rollout", {"live": "4"})
        assert refused.status_code == 422
        assert "version 4 does not become live: " in refused.json()["detail"]
        assert "onnxruntime cannot load the file" in refused.json()["detail"]
        assert in_every_worker(server, tells("2"))
        assert json.loads((folder / "tiny" / ROLLOUT_FILE).read_text())["live"] == "2"
        # The same by the file alone: what was live goes on answering, and the log says so.
        assert run("models", "promote", "tiny", "4", "--models", str(folder))[0] == 0
        said = "version 4 does not become live: "
        wait_until(lambda: any(said in line for line in server.log))
        assert in_every_worker(server, tells("2"))
        (folder / "tiny" / ROLLOUT_FILE).write_text("{")
        wait_until(lambda: any("is not JSON" in line for line in server.log))
        processes_of(server)[0].kill()
        before = workers_of(server)
        wait_until(lambda: bool(workers_of(server) - before) or len(processes_of(server)) == 2)
        assert in_every_worker(server, tells("2"))
    status, printed = run("serve", "--port", "0", *options(folder))
    assert status == 1
    assert "rollout.json is not JSON" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"live": "9"}, 422, "there is no version 9; there is 1, 2, 3"),
        ({"liv": "1"}, 422, "did you mean 'live'?"),
        ({}, 422, "must have 'live', 'canary' or 'shadow'"),
        ({"canary": {"version": "2", "percent": 200}}, 422, "canary.percent: "),
        ({"live": "2", "shadow": {"version": "2"}}, 422, "version 2 is live"),
        ([], 422, "must be an object"),
    ],
)
def test_orders_that_cannot_be_followed(rolled: Server, body: Any, status: int, text: str) -> None:
    answer = order(rolled, "PUT", "rollout", body)
    assert answer.status_code == status
    assert text in answer.json()["detail"]


@pytest.fixture(scope="module")
def rolled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    models = tmp_path_factory.mktemp("models")
    for version in (1, 2, 3):
        publish(models, version)
    with running(*options(models), "--grpc-port", "0", environment=WITH_KEY) as server:
        yield server


def test_an_order_needs_the_admin_key_and_a_model(rolled: Server) -> None:
    url = f"{rolled.url}/models/tiny"
    assert httpx.put(f"{url}/rollout", json={"live": "1"}).status_code == 401
    assert httpx.post(f"{url}/rollback").status_code == 401
    key = {"Authorization": f"Bearer {ADMIN_KEY}"}
    missing = httpx.put(f"{rolled.url}/models/tinny/rollout", json={"live": "1"}, headers=key)
    assert missing.status_code == 404
    assert "did you mean 'tiny'" in missing.json()["detail"]


def versions_by_user(server: Server, users: int) -> dict[str, str]:
    """Whom which version answers, each asked twice."""
    told: dict[str, str] = {}
    with httpx.Client(base_url=server.url, timeout=PATIENCE_SECONDS) as client:
        for _ in range(2):
            for number in range(users):
                headers = {**HEADERS, "X-User": f"user {number}"}
                answer = client.post("/predict", content=PICTURE, headers=headers).json()
                version = told.setdefault(f"user {number}", answer["version"])
                assert version == answer["version"]
    return told


def test_a_canary_answers_its_share_and_keeps_its_users(rolled: Server) -> None:
    taken: set[str] = set()
    for percent in (10, 40, 80):
        canary = {"version": "2", "percent": percent, "by": "header:X-User"}
        assert order(rolled, "PUT", "rollout", {"live": "3", "canary": canary}).status_code == 200
        told = versions_by_user(rolled, 300)
        now = {user for user, version in told.items() if version == "2"}
        assert set(told.values()) == {"2", "3"}
        assert taken <= now  # nobody goes back while the share grows
        taken = now
    assert len(taken) > 200
    for path in ("versions/3/predict", "versions/1/predict"):
        answer = rolled.client.post(f"/models/tiny/{path}", content=PICTURE, headers=HEADERS)
        assert answer.status_code == (200 if "3" in path else 404)
    assert order(rolled, "PUT", "rollout", {"canary": None}).status_code == 200
    assert set(versions_by_user(rolled, 50).values()) == {"3"}


def test_every_form_is_drawn(rolled: Server) -> None:
    canary = {"version": "2", "percent": 50}
    assert order(rolled, "PUT", "rollout", {"live": "3", "canary": canary}).status_code == 200
    for form in FORMS:
        told: Counter[int] = Counter()
        for number in range(60):
            ids = [("X-Request-ID", f"{form}-{number}")]
            reply = form.send(rolled, Ask([random_picture(0)], model="tiny", fields=ids))
            told[int(form.read(reply)[0].argmax())] += 1
        assert set(told) == {2, 3}, form
        assert 10 < told[2] < 50, form
    assert order(rolled, "PUT", "rollout", {"canary": None}).status_code == 200


def test_a_shadow_is_counted_and_changes_no_answer(rolled: Server) -> None:
    shadow = {"version": "1", "percent": 100}
    assert order(rolled, "PUT", "rollout", {"live": "3", "shadow": shadow}).status_code == 200
    images = [png(random_picture(seed)) for seed in range(5)]
    with httpx.Client(base_url=rolled.url, timeout=PATIENCE_SECONDS) as client:
        for image in images * 4:
            answer = client.post("/predict", content=image, headers=HEADERS)
            assert answer.json()["version"] == "3"

    def seen(outcome: str) -> float:
        return value(rolled.url, "shadow_total", model="tiny", version="1", outcome=outcome)

    # The two versions say different labels of every picture.
    wait_until(lambda: seen("differs") + seen("dropped") == 20)
    assert seen("differs") > 0
    assert seen("agrees") == seen("failed") == 0
    assert total(rolled.url, "predictions_total", version="1") == 0
    assert order(rolled, "PUT", "rollout", {"shadow": None}).status_code == 200
    rolled.client.post("/predict", content=images[0], headers=HEADERS)
    assert seen("differs") + seen("dropped") == 20


def test_a_folder_that_cannot_be_written(folder: Path) -> None:
    with running(*options(folder), environment=WITH_KEY) as server:
        assert order(server, "PUT", "rollout", {"live": "2"}).status_code == 200
        (folder / "tiny" / ROLLOUT_FILE).unlink()
        (folder / "tiny" / ROLLOUT_FILE).mkdir()  # root may write everywhere, but not over this
        answer = order(server, "PUT", "rollout", {"live": "1"})
        assert answer.status_code == 422
        assert "rollout.json cannot be written" in answer.json()["detail"]
        assert in_every_worker(server, tells("2"))


def test_the_commands_of_the_documentation(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/rollout.md").read_text(), re.DOTALL)
    models = tmp_path / "models"
    models.mkdir()
    for version in (1, 2, 3):
        publish(models, version, name="digits")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**clean_environment(PATH=path), "ADMIN_KEY": ADMIN_KEY}
    with running(*options(models), environment=WITH_KEY) as server:
        # Those that compare are in tests/logitserve: test_evaluate.py and test_compare_store.py.
        # The one that has steps is in test_canary_steps.py.
        for block in [block for block in blocks[:-2] if "not_worse" not in block]:
            script = block.replace("localhost:8000", server.url.removeprefix("http://"))
            script = script.replace("curl -X", "curl -sSf -X")
            subprocess.run(["bash", "-ec", script], cwd=tmp_path, env=environment, check=True)
        told = httpx.get(f"{server.url}/models/digits/rollout").json()
    changes = [(change["by"], change["live"]) for change in told["history"]]
    assert changes[:5] == [
        *(("command", "1"), ("command", "3"), ("command", None)),
        *(("request", "1"), ("request", "3")),
    ]
    assert (told["live"], told["canary"]) == ("2", None)
