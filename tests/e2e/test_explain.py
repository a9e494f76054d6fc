"""`POST /models/{name}/explain` and `logitserve explain`, against a real server."""

import asyncio
import base64
import io
import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from PIL import Image

from logitserve.cli.main import main
from logitserve.client import AsyncClient, Client
from logitserve.inference.overlay import overlay
from logitserve_training.drawings import SHEET, draw
from tests.e2e.metrics import value, wait_until
from tests.e2e.process import Server, running
from tests.tiny_models import encode

ROOT = Path(__file__).parents[2]
PLENTY = {"budget_ms": 10_000}


def sheet(digit: int = 3) -> bytes:
    return encode(draw(digit, seed=1, paper=SHEET), "PNG")


def asked(client: httpx.Client, path: str, **options: Any) -> dict[str, Any]:
    response = client.post(path, files={"file": sheet()}, params=PLENTY | options)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


@pytest.mark.parametrize("name", ["digits-mlp", "scenes", "zero", "adopted", "scaled"])
def test_every_body_form_is_explained_alike(client: httpx.Client, name: str) -> None:
    picture = sheet()
    text = base64.b64encode(picture).decode()
    array = np.asarray(Image.open(io.BytesIO(picture)))
    answers = []
    for path in (f"/models/{name}/explain", f"/models/{name}/versions/1/explain"):
        for response in (
            client.post(
                path, content=picture, headers={"content-type": "image/png"}, params=PLENTY
            ),
            client.post(path, files={"file": picture}, params=PLENTY),
            client.post(path, json={"images": [text]}, params=PLENTY),
            client.post(path, json={"pixels": array.tolist()}, params=PLENTY),
        ):
            assert response.status_code == 200, response.text
            answers.append(response.json())
    assert all(answer == answers[0] for answer in answers)
    (answer, *_) = answers
    predicted = client.post(f"/models/{name}/predict", content=picture).json()
    prediction = predicted["predictions"][0]
    assert answer["prediction"].keys() == prediction.keys()
    assert answer["prediction"]["probabilities"] == pytest.approx(prediction["probabilities"])
    assert answer["label"] == prediction["label"]
    assert (answer["model"], answer["version"]) == (name, predicted["version"])
    assert (answer["method"], answer["complete"]) == ("occlusion", True)
    assert answer["passes"] == answer["of"]
    assert answer["fill"] == ("paper" if name == "digits-mlp" else "blur")
    rows, columns = np.shape(answer["map"])
    assert (rows, columns) == ((12, 14) if name == "scenes" else (14, 14))


def test_the_default_model_is_explained_at_the_root(client: httpx.Client) -> None:
    assert asked(client, "/explain") == asked(client, "/models/digits/explain")


def test_a_large_picture_is_explained_too(client: httpx.Client) -> None:
    large = encode(draw(3, seed=1, paper=SHEET).resize((900, 900)), "PNG")
    explained = client.post("/models/digits-mlp/explain", content=large)
    predicted = client.post("/models/digits-mlp/predict", content=large)
    prediction = predicted.json()["predictions"][0]
    assert explained.json()["prediction"]["label"] == prediction["label"]
    found = explained.json()["prediction"]["probabilities"]
    assert found == pytest.approx(prediction["probabilities"])


def test_the_labels_of_a_yes_or_no_are_opposites(client: httpx.Client) -> None:
    yes, no = (asked(client, "/models/zero/explain", label=name) for name in ("zero", "other"))
    np.testing.assert_allclose(yes["map"], -np.array(no["map"]), atol=1e-5)
    assert np.abs(yes["map"]).max() > 0


def test_a_class_activation_map_adds_up_to_the_logit(shipped: Server) -> None:
    with httpx.Client(base_url=shipped.url, timeout=30) as client:
        answer = asked(client, "/models/digits/explain", method="cam", label="8")
        tensor = {"name": "image", "shape": [1], "datatype": "BYTES"}
        tensor |= {"data": [base64.b64encode(sheet()).decode()]}
        outputs = [{"name": "logits"}]
        v2 = client.post("/v2/models/digits/infer", json={"inputs": [tensor], "outputs": outputs})
        logits = v2.json()["outputs"][0]["data"]
        assert np.mean(answer["map"]) + answer["bias"] == pytest.approx(logits[8], abs=1e-4)
        assert answer["drop"]["top"] != answer["drop"]["random"]


def test_the_drawing_is_the_map_over_what_the_network_sees(client: httpx.Client) -> None:
    for name in ("digits-mlp", "scenes", "adopted"):
        headers = {"accept": "image/png"}
        path = f"/models/{name}/explain"
        drawn = client.post(path, files={"file": sheet()}, params=PLENTY, headers=headers)
        assert drawn.headers["content-type"] == "image/png"
        preview = client.post(f"/models/{name}/preview", files={"file": sheet()})
        seen = np.asarray(Image.open(io.BytesIO(preview.content)))
        seen = seen.reshape(*seen.shape[:2], -1)
        expected = overlay(seen, asked(client, path)["map"])
        found = np.asarray(Image.open(io.BytesIO(drawn.content)))
        assert found.shape[:2] >= (200, 200)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("query", "status", "detail"),
    [
        ("methd=cam", 422, "unknown query parameter 'methd'; did you mean 'method'?"),
        ("method=camm", 422, "query method: Input should be 'auto', 'cam' or 'occlusion'"),
        ("budget_ms=0", 422, "query budget_ms: Input should be greater than or equal to 1"),
        ("budget_ms=10001", 422, "query budget_ms: Input should be less than or equal to 10000"),
        ("label=zeroo", 422, "no label 'zeroo'; did you mean 'zero'? there is other, zero"),
        ("against=nothing", 422, "no label 'nothing'; there is other, zero"),
        ("method=cam", 422, "model 'zero' has no class activation maps"),
    ],
)
def test_what_is_asked_wrongly(client: httpx.Client, query: str, status: int, detail: str) -> None:
    response = client.post(f"/models/zero/explain?{query}", files={"file": sheet()})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"].startswith(detail)


def test_pictures_that_cannot_be_used_get_the_errors_of_predict(client: httpx.Client) -> None:
    for sent in (
        {"files": {"file": b"no picture"}},
        {"files": {"image": sheet()}},
        {"content": sheet()[:-50]},
        {"content": b"x", "headers": {"content-type": "text/plain"}},
        {"json": {"pixels": [[300]]}},
    ):
        arguments: dict[str, Any] = sent
        predicted = client.post("/models/zero/predict", **arguments)
        explained = client.post("/models/zero/explain", **arguments)
        assert explained.status_code == predicted.status_code >= 400
        assert explained.json() == predicted.json()
    two = client.post("/explain", files=[("file", sheet()), ("file", sheet())])
    assert two.status_code == 422
    assert two.json()["detail"] == "an explanation takes one image, and the request has 2"
    missing = client.post("/models/zer/explain", files={"file": sheet()})
    assert missing.status_code == 404
    assert "did you mean 'zero'?" in missing.json()["detail"]


def test_explanations_are_measured_once_there_are_any() -> None:
    with (
        running("--models", str(ROOT / "models")) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        assert "explain_seconds" not in client.get("/metrics").text
        predictions = 'logitserve_predictions_total{label="3",model="digits",version="1"} 0.0'
        for method in ("cam", "occlusion", "occlusion"):
            asked(client, "/explain", method=method)
        metrics = client.get("/metrics").text
        for method, count in (("cam", 1), ("occlusion", 2)):
            labels = f'method="{method}",model="digits"'
            assert f"logitserve_explain_seconds_count{{{labels}}} {count}.0" in metrics
        # What is explained was predicted before, and is not counted again.
        assert predictions in metrics


@pytest.fixture
def own() -> Iterator[Server]:
    """A server that has explained something, with a short drain."""
    options = ("--models", str(ROOT / "models"), "--linger-seconds", "0.1", "--drain-seconds", "20")
    with running(*options) as server:
        assert "label" in asked(server.client, "/explain")
        yield server


def processes(server: Server) -> tuple[psutil.Process, psutil.Process]:
    """The worker, and the process that computes its explanations."""
    worker, explainer = sorted(
        psutil.Process(server.process.pid).children(), key=psutil.Process.nice
    )
    assert worker.nice() < explainer.nice() == 19
    return worker, explainer


def test_a_killed_process_is_replaced_and_logged(own: Server) -> None:
    _, first = processes(own)
    first.kill()
    assert asked(own.client, "/explain")["complete"]
    assert processes(own)[1].pid != first.pid
    wait_until(lambda: f"process {first.pid}, which computes explanations" in "".join(own.log))


def test_the_process_ends_with_its_worker(own: Server) -> None:
    worker, explainer = processes(own)
    worker.kill()
    explainer.wait(20)
    wait_until(lambda: own.is_ready)
    assert asked(own.client, "/explain")["complete"]
    assert processes(own)[0].pid != worker.pid


def test_a_stop_waits_for_an_explanation(own: Server) -> None:
    worker, explainer = processes(own)
    explainer.suspend()
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(asked, own.client, "/explain")
        wait_until(lambda: value(own.url, "requests_in_progress") == 2)  # with this one
        for process in (explainer, own.process):  # as systemd does
            process.send_signal(signal.SIGTERM)
        wait_until(lambda: not own.is_ready)
        explainer.resume()
        assert answer.result()["complete"]
    assert own.process.wait(20) == 0
    assert not worker.is_running()
    assert not explainer.is_running()
    assert "Traceback" not in "".join(own.log)


def command(*arguments: str) -> str:
    done = CliRunner().invoke(main, ["explain", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_explains_as_the_server_does(shipped: Server, tmp_path: Path) -> None:
    picture = tmp_path / "three.png"
    picture.write_bytes(sheet())
    here = ("--models", str(ROOT / "models"))
    there = ("--url", shipped.url)
    asked = ("digits/1", str(picture), "--against", "8", "--method", "cam")
    found = []
    for where in (here, there):
        drawing = tmp_path / f"{where[0]}.png"
        text = command(*asked, *where, "-o", str(drawing))
        assert text.startswith("3 against 8 (1.0000), by cam\n")
        assert text.endswith(f"drawn in {drawing}\n")
        assert np.asarray(Image.open(drawing)).shape == (280, 280, 3)
        found.append((json.loads(command(*asked, *where, "--json")), drawing.read_bytes()))
    assert found[0][0].keys() == found[1][0].keys()
    assert found[0][0]["map"] == found[1][0]["map"]
    assert found[0][1] == found[1][1]
    text = command("digits", str(picture), *here, "--budget-ms", "10000")
    assert text.startswith("3 (1.0000), by occlusion\n")
    assert "\ncovering its top fifth lowers " in text
    rows = text.splitlines()[2:]
    assert [len(row) for row in rows] == [28] * 14
    assert "++" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digit",), "did you mean 'digits'?"),
        (("digits", "--label", "x"), "no label 'x'"),
        (("digits", "--budget-ms", "0"), "0 is not in the range 1<=x<=10000"),
        (("scenes", "--method", "cam"), "use method 'occlusion'"),
        (("digits", "-o", "/nowhere/map.png"), "'/nowhere/map.png': No such file"),
        (("digits", "--url", "http://127.0.0.1:9"), "http://127.0.0.1:9: "),
    ],
)
def test_what_the_command_cannot_do(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "three.png").write_bytes(sheet())
    model, *options = arguments
    if "--url" not in options:
        options += ["--models", str(ROOT / "models")]
    done = CliRunner().invoke(main, ["explain", model, str(tmp_path / "three.png"), *options])
    assert done.exit_code != 0
    assert message in done.output
    assert "Traceback" not in done.output


def test_clients_explain(shipped: Server) -> None:
    async def by_async_client() -> Any:
        async with AsyncClient(shipped.url) as client:
            return await client.explain(sheet(), model="digits", label="3", method="cam")

    with Client(shipped.url) as client:
        found = client.explain(sheet(), model="digits", label="3", method="cam")
        png = client.explain(sheet(), png=True)
    assert found["method"] == "cam"
    assert found == asyncio.run(by_async_client())
    assert png.startswith(b"\x89PNG")
