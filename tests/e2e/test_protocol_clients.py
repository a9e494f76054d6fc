"""Other people's clients of the Open Inference Protocol, unchanged, against a real server."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from tests.e2e.clients.harness import OUTPUTS
from tests.e2e.conftest import MODELS, VERSIONS, Weights
from tests.e2e.process import Server
from tests.e2e.profiles import MAX_IMAGES
from tests.e2e.test_v2 import COUNT, PICTURES
from tests.forms import length_prefixed
from tests.tiny_models import DIGIT_LABELS, linear_logits, png

ROOT = Path(__file__).parents[2]
CLIENT_SECONDS = 60

Answers = dict[str, dict[str, npt.NDArray[Any]]]


def ask(clients: str, name: str, address: str, folder: Path) -> tuple[Answers, dict[str, Any]]:
    """Answers by form and output, and the other facts, of one of the programs."""
    np.save(folder / "pictures.npy", PICTURES)
    files = length_prefixed([png(picture) for picture in PICTURES])
    (folder / "files.bin").write_bytes(files)
    done = subprocess.run(
        [clients, "-m", f"tests.e2e.clients.{name}", address, str(folder)],
        cwd=ROOT,
        env={**os.environ, "no_proxy": "*"},
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: Answers = {}
    with np.load(folder / "answers.npz") as saved:
        for key in saved.files:
            form, _, output = key.partition("/")
            answers.setdefault(form, {})[output] = saved[key]
    return answers, json.loads(done.stdout.splitlines()[-1])


def assert_right(answers: Answers, weights: Weights, forms: int) -> None:
    """Each form gives the float64 reference, and all give the same to the last digit."""
    logits = linear_logits(PICTURES, weights["digits/2"])
    expected = {
        "logits": logits,
        "probabilities": softmax(logits, axis=1),
        "argmax": logits.argmax(axis=1),
    }
    assert len(answers) == forms
    (first, *_) = answers.values()
    for outputs in answers.values():
        assert set(outputs) == set(OUTPUTS)
        for name, values in expected.items():
            np.testing.assert_allclose(outputs[name], values, atol=1e-5)
            np.testing.assert_allclose(outputs[name], first[name], atol=1e-6, rtol=0)


def assert_top_three(top: list[list[str]], weights: Weights) -> None:
    probabilities = softmax(linear_logits(PICTURES, weights["digits/2"]), axis=1)
    assert len(top) == COUNT
    for row, values in zip(top, probabilities, strict=True):
        parts = [text.split(":") for text in row]
        order = np.argsort(-values)[:3]
        assert [label for _, _, label in parts] == [DIGIT_LABELS[index] for index in order]
        np.testing.assert_allclose([float(p) for p, _, _ in parts], values[order], atol=1e-5)


def assert_told_as_triton_does(facts: dict[str, Any]) -> None:
    """What perf_analyzer asks for first; over gRPC, long numbers are texts (protobuf's JSON)."""
    config = facts["config"]
    (image,), (logits, probabilities, argmax) = config["input"], config["output"]
    assert (config["name"], int(config["max_batch_size"])) == ("digits", MAX_IMAGES)
    assert (image["name"], image["data_type"], image["format"]) == (
        *("image", "TYPE_UINT8", "FORMAT_NHWC"),
    )
    assert [*map(int, image["dims"])] == [28, 28, 1]
    assert [*map(int, logits["dims"])] == [*map(int, probabilities["dims"])] == [10]
    assert ([*map(int, argmax["dims"])], argmax["data_type"]) == ([1], "TYPE_INT64")
    assert {"reshape", "name", "data_type", "dims"} == set(argmax)
    (statistics,) = facts["statistics"]
    assert (statistics["name"], statistics["version"], facts["all"]) == ("digits", "2", len(MODELS))
    counted = int(statistics["inference_count"]), int(statistics["execution_count"])
    assert counted[0] >= counted[1] > 0
    durations = statistics["inference_stats"]
    success = durations["success"]
    assert int(success["count"]) > 0
    steps = [
        durations[step] for step in ("queue", "compute_input", "compute_infer", "compute_output")
    ]
    assert {step["count"] for step in steps} == {success["count"]}
    spent = [int(step["ns"]) for step in steps]
    assert min(spent) > 0
    assert sum(spent) < int(success["ns"]) < 600e9


def test_tritonclient_http(clients: str, server: Server, weights: Weights, tmp_path: Path) -> None:
    answers, facts = ask(clients, "triton_http", server.url, tmp_path)
    assert_right(answers, weights, forms=9)
    assert_top_three(facts["top"], weights)
    assert facts["id"] == "binary in, all out"
    assert facts["version"] == "1"
    states = ("live", "ready", "model ready", "version ready", "no model ready")
    assert [facts[state] for state in states] == [True, True, True, True, False]
    assert facts["server"]["name"] == "logitserve"
    assert facts["model"]["inputs"][0]["shape"] == [-1, 28, 28, 1]
    assert len(facts["index"]) == len(VERSIONS)
    assert facts["error"].startswith("422 no output 'softmax'")
    assert_told_as_triton_does(facts)


def test_tritonclient_http_with_asyncio(
    clients: str, server: Server, weights: Weights, tmp_path: Path
) -> None:
    answers, facts = ask(clients, "triton_http_aio", server.url, tmp_path)
    assert_right(answers, weights, forms=6)
    assert facts == {"live": True, "ready": True, "model ready": True}


def test_kserve_rest(clients: str, server: Server, weights: Weights, tmp_path: Path) -> None:
    answers, facts = ask(clients, "kserve_rest", server.url, tmp_path)
    assert_right(answers, weights, forms=2)
    predictions = facts.pop("predictions")
    np.testing.assert_allclose(predictions, answers["json"]["probabilities"], atol=1e-6)
    states = {"live": True, "ready": True, "model ready": True, "no model ready": False}
    first = {"v1 live": True, "v1 model ready": True}
    assert facts == {**states, **first, "error": 422}
    assert server.client.get("/v1/models").json() == {"models": MODELS}


def test_mlserver_types(clients: str, server: Server, weights: Weights, tmp_path: Path) -> None:
    answers, facts = ask(clients, "mlserver_types", server.url, tmp_path)
    assert_right(answers, weights, forms=3)
    assert facts == {"server": "logitserve", "model": "onnx_onnxv1", "index": len(VERSIONS)}
