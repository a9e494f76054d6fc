"""The watch of a service with two workers: clean and changed pictures, and what is normal."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.metrics import series, value, wait_until
from tests.e2e.process import Server, clean_environment, run, running
from tests.e2e.profiles import ADMIN_KEY
from tests.service.monitoring import pictures
from tests.service.monitoring.pictures import Images

AT_ONCE = 50
PATIENCE = 400
"""Requests."""
KEY = {"Authorization": f"Bearer {ADMIN_KEY}"}


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Server]:
    pictures.publish(tmp_path)
    environment = clean_environment(LOGITSERVE_ADMIN_KEY=ADMIN_KEY, LOGITSERVE_WATCH="1")
    options = ("--models", str(tmp_path), "--workers", "2")
    with running(*options, environment=environment) as server:
        yield server


def report(server: Server, model: str = "tiny", *, status: int = 200) -> dict[str, Any]:
    """Of any worker."""
    answer = httpx.get(f"{server.url}/models/{model}/drift", timeout=20)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def alarms(server: Server) -> dict[str, str]:
    return {
        each["feature"]: each["sentence"] for each in report(server)["features"] if each["alarm"]
    }


def baseline(server: Server, **body: str) -> httpx.Response:
    url = f"{server.url}/models/tiny/drift/baseline"
    return httpx.post(url, headers=KEY, json=body, timeout=20)


def send_until(
    server: Server, draw: Callable[[int, int], Images], done: Callable[[], bool]
) -> None:
    """Send pictures, each time over a new connection, so that all workers get some."""
    for seed in range(PATIENCE):
        images = draw(AT_ONCE, 1000 + seed)
        body = {"pixels": images[..., 0].tolist()}
        httpx.post(f"{server.url}/predict", json=body, timeout=20).raise_for_status()
        if done():
            return
    pytest.fail(f"not after {PATIENCE} requests: {report(server)}")


def drift_command(server: Server, *options: str, key: str = "") -> tuple[int, str]:
    environment = clean_environment(**({"LOGITSERVE_API_KEY": key} if key else {}))
    return run("drift", "tiny", "--url", server.url, *options, environment=environment)


def test_clean_pictures_are_normal_and_blurred_ones_are_not(watched: Server) -> None:
    send_until(watched, pictures.clean, lambda: report(watched)["pictures"] >= 2000)
    found = report(watched)
    assert (found["alarm"], found["reference"], found["model"]) == (False, "card", "tiny")
    assert [len(each["windows"]) > 0 for each in found["features"]] == [True] * 5
    assert drift_command(watched)[0] == 0

    send_until(watched, pictures.blurred, lambda: "sharpness" in alarms(watched))
    assert alarms(watched)["sharpness"].startswith("sharpness fell: ")
    (found,) = [each for each in report(watched)["features"] if each["feature"] == "sharpness"]
    assert datetime.fromisoformat(found["since"]) < datetime.now(UTC)
    wait_until(lambda: gauge(watched, "drift_alarm", "sharpness") == 1)
    assert gauge(watched, "drift_alarms_total", "sharpness") == 1
    assert gauge(watched, "drift_alarm", "brightness") == 0
    assert sum("model tiny: sharpness fell" in line for line in watched.log) == 1
    status, said = drift_command(watched)
    assert (status, "ALARM since" in said, "sharpness fell" in said) == (1, True, True)

    send_until(watched, pictures.clean, lambda: not alarms(watched))
    wait_until(lambda: gauge(watched, "drift_alarm", "sharpness") == 0)


def gauge(server: Server, name: str, feature: str) -> float:
    return value(server.url, name, model="tiny", feature=feature)


def test_what_was_accepted_is_normal(watched: Server) -> None:
    send_until(watched, pictures.blurred, lambda: "sharpness" in alarms(watched))
    early = baseline(watched)
    assert early.status_code == 409
    assert "a live baseline needs 2000 images" in early.json()["detail"]
    assert report(watched)["alarm"] is True

    send_until(watched, pictures.blurred, lambda: report(watched)["pictures"] >= 2400)
    status, _ = drift_command(watched, "--accept", "live", key=ADMIN_KEY)
    assert status == 0
    seen = report(watched)["pictures"]
    send_until(watched, pictures.blurred, lambda: report(watched)["pictures"] >= seen + 1000)
    found = report(watched)
    assert (found["alarm"], found["reference"]) == (False, "live")
    send_until(watched, pictures.clean, lambda: "sharpness" in alarms(watched))
    assert alarms(watched)["sharpness"].startswith("sharpness rose: ")

    back = baseline(watched, reference="card")
    assert (back.status_code, back.json()["alarm"], back.json()["reference"]) == (
        200,
        False,
        "card",
    )


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Nobody asks it, and one of its models has no reference."""
    models = tmp_path_factory.mktemp("models")
    pictures.publish(models)
    pictures.publish(models, name="adopted", reference=None)
    environment = clean_environment(LOGITSERVE_ADMIN_KEY=ADMIN_KEY)
    with running("--models", str(models), "--watch", "true", environment=environment) as server:
        yield server


def test_wrong_orders_are_refused(idle: Server) -> None:
    misspelt = baseline(idle, referense="live")
    assert misspelt.status_code == 422
    assert "did you mean 'reference'?" in misspelt.json()["detail"]
    other = baseline(idle, reference="cart")
    assert other.status_code == 422
    assert "did you mean 'card'?" in other.json()["detail"]
    url = f"{idle.url}/models/tiny/drift/baseline"
    assert httpx.post(url).status_code == 401
    assert httpx.get(f"{idle.url}/models/tini/drift").status_code == 404
    assert httpx.get(f"{idle.url}/models/tiny/versions/1/drift").status_code == 200


def test_a_model_without_a_reference_says_how_to_get_one(idle: Server) -> None:
    detail = report(idle, "adopted", status=404)["detail"]
    assert "`logitserve adopt --reference FOLDER`" in detail
    assert any("no reference" in line for line in idle.log)


def test_without_watch_nothing_is_counted_and_the_route_says_how_to(server: Server) -> None:
    (name, *_) = (each["name"] for each in server.client.get("/models").json()["models"])
    answer = server.client.get(f"/models/{name}/drift")
    assert answer.status_code == 404
    assert answer.json()["detail"] == (
        "drift detection is off; start the service with --watch (setting LOGITSERVE_WATCH)"
    )
    assert not [name for name, _ in series(server.url) if name.startswith("logitserve_drift")]


def test_the_command_passes_over_models_without_a_reference(idle: Server) -> None:
    environment = clean_environment(LOGITSERVE_URL=idle.url)
    status, said = run("drift", environment=environment)
    assert status == 0
    assert "adopted: the card of model 'adopted' has no reference" in said
    assert "tiny version 1: 0 pictures compared" in said
    status, said = run("drift", "--json", environment=environment)
    assert '"feature": "sharpness"' in said
    assert run("drift", "adopted/1", environment=environment)[0] == 1
    assert run("drift", "tini", environment=environment)[0] == 1
