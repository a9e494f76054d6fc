"""Labels that come later, sent to two workers, and to another replica."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from logitserve_service.monitoring.feedback import MAX_LABELS
from tests.e2e.conftest import Weights
from tests.e2e.metrics import total, wait_until
from tests.e2e.process import Server, clean_environment, running
from tests.e2e.test_receipts import SIGNING, keeping
from tests.tiny_models import png, random_picture

KEY, ADMIN = "api-key-1", "admin-key-1"
NOTHING = {"accepted": 0, "changed": 0, "same": 0, "expired": 0, "invalid": 0, "new_class": 0}


@pytest.fixture(scope="module")
def keeper(
    models: tuple[Path, Weights], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    store = tmp_path_factory.mktemp("store") / "store.db"
    keys = {"LOGITSERVE_API_KEY": KEY, "LOGITSERVE_ADMIN_KEY": ADMIN}
    with keeping(models[0], store, **keys) as server:
        server.client.headers["X-API-Key"] = KEY
        yield server


def ids(server: Server, count: int, model: str = "digits", start: int = 0) -> list[str]:
    shape = (12, 16, 3) if model == "scenes" else (28, 28, 1)
    files = [
        ("file", ("a.png", png(random_picture(start + n)[: shape[0], : shape[1]])))
        for n in range(count)
    ]
    answer = server.client.post(f"/models/{model}/predict", files=files)
    assert answer.status_code == 200, answer.text
    return [row["id"] for row in answer.json()["predictions"]]


def told(server: Server, labels: Any, **fields: Any) -> dict[str, Any]:
    response = server.client.post("/feedback", json=labels, **fields)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_labels_late_twice_and_out_of_order(keeper: Server) -> None:
    a, b = ids(keeper, 2)
    assert told(keeper, {"id": a, "label": "7"}) == {**NOTHING, "accepted": 1, "places": []}
    again = [{"id": a, "label": "7"}, {"id": b, "label": "1"}, {"id": b, "label": "2"}]
    assert told(keeper, again) == {**NOTHING, "same": 1, "accepted": 1, "changed": 1, "places": []}
    old = {"id": b, "label": "9", "at": "2020-01-01T00:00:00Z"}
    assert told(keeper, old) == {**NOTHING, "same": 1, "places": []}
    future = {"id": b, "label": "3", "at": "9999-01-01T00:00:00Z"}
    assert told(keeper, future) == {**NOTHING, "changed": 1, "places": []}, "as of now"
    later = {"id": b, "label": "4"}
    assert told(keeper, later) == {**NOTHING, "changed": 1, "places": []}
    other = {"id": b, "label": "9", "source": "Ada", "at": 1_600_000_000}
    assert told(keeper, other) == {**NOTHING, "accepted": 1, "places": []}


def test_lines_of_json(keeper: Server) -> None:
    lines = "".join(json.dumps({"id": of, "label": "3"}) + "\r\n" for of in ids(keeper, 3)) + "\n"
    response = keeper.client.post(
        "/feedback", content=lines, headers={"Content-Type": "application/x-ndjson"}
    )
    assert response.json()["accepted"] == 3


def test_what_is_forged_damaged_or_does_not_fit_is_told_by_its_place(keeper: Server) -> None:
    (good,) = ids(keeper, 1)
    (scene,) = ids(keeper, 1, "scenes")
    middle = "B" if good[20] == "A" else "A"
    labels = [
        {"id": good[:20] + middle + good[21:], "label": "1"},
        {"id": good, "label": "1"},
        {"id": "no id", "label": "1"},
        {"id": good, "labels": ["1", "2"]},
        {"id": scene, "labels": ["car", "bus"]},
        {"id": scene, "labels": []},
        {"id": good, "label": "eleven"},
    ]
    found = told(keeper, labels)
    assert [place["index"] for place in found["places"]] == [0, 2, 3]
    assert "another key" in found["places"][0]["reason"]
    assert "one label per image" in found["places"][2]["reason"]
    expected = {"accepted": 2, "changed": 2, "invalid": 3, "new_class": 1}
    assert found == {**NOTHING, **expected, "places": found["places"]}


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ({"id": "x", "lable": "7"}, "did you mean 'label'?"),
        ([{"id": "x", "label": "7"}, {"label": "7"}], "label 1 id: Field required"),
        ({"id": "x"}, "one of 'label' and 'labels'"),
        ({"id": "x", "label": "7", "labels": ["7"]}, "one of 'label' and 'labels'"),
        ({"id": "x", "label": "7" * 257}, "at most 256 characters"),
        ({"id": "x", "label": 7}, "label 0 label: Input should be a valid string"),
        ({"id": "x", "label": "7", "at": "2020-01-01T00:00:00"}, "timezone"),
        ([], f"send 1 to {MAX_LABELS:,}"),
        ([{"id": "x", "label": "7"}] * (MAX_LABELS + 1), f"send 1 to {MAX_LABELS:,}"),
        ("seven", "label 0"),
    ],
)
def test_what_is_no_label_is_refused(keeper: Server, labels: Any, says: str) -> None:
    response = keeper.client.post("/feedback", json=labels)
    assert response.status_code == 422
    assert says in response.json()["detail"]


def test_as_many_as_there_may_be(keeper: Server) -> None:
    (one,) = ids(keeper, 1)
    found = told(keeper, [{"id": one, "label": "7"}] * MAX_LABELS)
    assert (found["accepted"], found["same"]) == (1, MAX_LABELS - 1)


def test_another_replica_with_the_key_takes_them(
    keeper: Server, models: tuple[Path, Weights], tmp_path: Path
) -> None:
    given = [{"id": of, "label": "7"} for of in ids(keeper, 3)]
    with keeping(models[0], tmp_path / "other.db") as other:
        wait_until(lambda: told(other, given)["accepted"] + told(other, given)["same"] >= 3)
    with running(
        *("--models", str(models[0]), "--store", str(tmp_path / "third.db")),
        environment=clean_environment(LOGITSERVE_RECEIPTS_KEY=f"not-{SIGNING}"),
    ) as other:
        assert told(other, given)["invalid"] == 3


def test_what_the_store_has_forgotten_is_expired(
    models: tuple[Path, Weights], tmp_path: Path
) -> None:
    days = str(1 / 86_400)
    with keeping(models[0], tmp_path / "store.db", "--store-days", days) as server:
        given = [{"id": of, "label": "7"} for of in ids(server, 2)]
        wait_until(lambda: told(server, given)["expired"] == 2)


def test_keys_are_asked_for_as_for_predictions(keeper: Server) -> None:
    for method, path in (("POST", "/feedback"), ("GET", "/store"), ("DELETE", "/store/x")):
        assert httpx.request(method, f"{keeper.url}{path}").status_code == 401
        with_key = keeper.client.request(method, path)
        assert with_key.status_code == (400 if method == "POST" else 403)


def test_the_admin_sees_and_erases(keeper: Server) -> None:
    admin = {"X-API-Key": ADMIN}
    one, _ = ids(keeper, 2)
    told(keeper, {"id": one, "label": "7"})
    assert keeper.client.delete(f"/store/{one}", headers=admin).json() == {"rows": 2}
    again = keeper.client.delete(f"/store/{one}", headers=admin)
    assert again.status_code == 404
    assert keeper.client.delete("/store/seven", headers=admin).status_code == 422
    info = keeper.client.get("/store", headers=admin).json()
    assert info["rows"]["answer"] > 0
    assert info["bytes"] > 0


def test_labels_are_counted_by_model_and_outcome(keeper: Server) -> None:
    headers = {"X-API-Key": KEY}

    def count(**labels: str) -> float:
        return total(keeper.url, "feedback_total", headers=headers, **labels)

    before = count(model="digits", outcome="accepted"), count(outcome="invalid")
    (one,) = ids(keeper, 1)
    told(keeper, [{"id": one, "label": "7"}, {"id": "x", "label": "7"}])
    assert count(model="digits", outcome="accepted") == before[0] + 1
    assert count(outcome="invalid") == before[1] + 1


def test_without_a_store_it_says_what_to_set(server: Server) -> None:
    response = server.client.post("/feedback", json={"id": "x", "label": "7"})
    assert response.status_code == 403
    assert "none is configured (setting LOGITSERVE_STORE)" in response.json()["detail"]
