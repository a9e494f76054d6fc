"""What a client gets wrong is answered with the right 4xx, in problem+json, and what to do."""

import base64
import json
import re
from typing import Any

import httpx
import numpy as np
import pytest

from tests.tiny_models import png, random_picture

GOOD = png(random_picture(0))
GOOD_TEXT = base64.b64encode(GOOD).decode()
JSON = {"content-type": "application/json"}
PNG = {"content-type": "image/png"}


def assert_problem(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["error"] == problem["detail"]
    for word in words:
        assert word in problem["detail"]
    assert "Traceback" not in response.text
    assert not re.search(r"(^|[\s'\"])/\w", problem["detail"]), "a path of the server"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, ["not JSON"]),
        (b"", 400, ["not JSON"]),
        (b"[" * 200_000, 400, ["deeper than the limit of 32", "LOGITSERVE_MAX_JSON_DEPTH"]),
        (b"[" * 33 + b"]" * 33, 400, ["deeper than the limit of 32"]),
        (b"[" * 32 + b"]" * 32, 422, ["images", "pixels"]),
        ({"images": ["[" * 2000]}, 422, ["images[0] is not base64"]),
        (b"[0" + b",0" * 499_000, 400, ["not JSON"]),
        (b"\xff\xfe", 400, ["not JSON"]),
        (b"[]", 422, ["images", "pixels"]),
        (b"{}", 422, ["images", "pixels"]),
        (b"null", 422, ["images", "pixels"]),
        ({"images": []}, 422, ["at least one picture"]),
        ({"pixels": []}, 422, ["at least one picture"]),
        ({"images": GOOD_TEXT}, 422, ["images"]),
        ({"images": [GOOD_TEXT], "pixels": [[1]]}, 422, ["nothing else"]),
        ({"images": [GOOD_TEXT], "model": "x"}, 422, ["nothing else"]),
        ({"images": [GOOD_TEXT, 5]}, 422, ["images[1] is not a string"]),
        ({"images": ["not base64!"]}, 422, ["images[0] is not base64"]),
        ({"images": ["äöü"]}, 422, ["images[0] is not base64"]),
        ({"images": [""]}, 422, ["the picture is empty"]),
        ({"images": ["data:image/png,abc"]}, 422, ["not a base64 one"]),
        ({"images": [GOOD_TEXT, "QUJD"]}, 422, ["picture 1: not a picture"]),
        ({"images": [base64.b64encode(GOOD[:-30]).decode()]}, 422, ["damaged"]),
        ({"pixels": [[0, 256]]}, 422, ["0 (black) to 255"]),
        ({"pixels": [[0, -1]]}, 422, ["0 (black) to 255"]),
        ({"pixels": [[0, 0.5]]}, 422, ["whole"]),
        ({"pixels": [[0, None]]}, 422, ["whole"]),
        ({"pixels": [[0, "1"]]}, 422, ["whole"]),
        ({"pixels": [[True, False]]}, 422, ["whole"]),
        ({"pixels": [[1, 2], [3]]}, 422, ["differ in length"]),
        ({"pixels": [[10**30]]}, 422, ["whole"]),
        ({"pixels": [1, 2, 3]}, 422, ["1 levels"]),
        ({"pixels": [[[[[1]]]]]}, 422, ["5 levels"]),
        ({"pixels": [[[[1, 2]]]]}, 422, ["1, 3 or 4 channels"]),
        ({"pixels": [[]]}, 422, ["whole"]),
    ],
)
def test_bad_json(client: httpx.Client, body: Any, status: int, words: list[str]) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert_problem(client.post("/predict", content=content, headers=JSON), status, *words)


@pytest.mark.parametrize("data", [b"", b"hello", GOOD[:-30], GOOD[:9], b"\x00" * 100])
def test_bad_pictures(client: httpx.Client, data: bytes) -> None:
    assert_problem(client.post("/predict", content=data, headers=PNG), 422)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "x"])
def test_other_content_types(client: httpx.Client, content_type: str) -> None:
    response = client.post("/predict", content=GOOD, headers={"content-type": content_type})
    assert_problem(response, 415, "image/png", "multipart/form-data", "application/json")


def test_a_form_without_the_field(client: httpx.Client) -> None:
    assert_problem(client.post("/predict", files={"picture": GOOD}), 422, "'picture'", "'file'")


def test_a_form_field_that_is_no_file(client: httpx.Client) -> None:
    response = client.post("/predict", files={"file": GOOD}, data={"file": "text"})
    assert_problem(response, 422, "not a file")


def test_a_form_that_is_empty_or_broken(client: httpx.Client) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert_problem(client.post("/predict", content=b"--x--\r\n", headers=headers), 422, "'file'")
    assert_problem(client.post("/predict", content=b"nonsense", headers=headers), 400)
    headers = {"content-type": "multipart/form-data"}
    assert_problem(client.post("/predict", content=b"--x--", headers=headers), 400)


def test_a_bad_top_k(client: httpx.Client) -> None:
    for value in ("0", "-1", "many"):
        response = client.post(f"/predict?top_k={value}", content=GOOD, headers=PNG)
        assert_problem(response, 422, "top_k")


@pytest.mark.parametrize(
    "path",
    [
        "/models/unknown/predict",
        "/models/digits/versions/9/predict",
        "/models/..%2f..%2fetc/predict",
        "/nowhere",
    ],
)
def test_what_is_not_there(client: httpx.Client, path: str) -> None:
    assert_problem(client.post(path, content=GOOD, headers=PNG), 404)


def test_an_unknown_model_names_those_there_are(client: httpx.Client) -> None:
    assert_problem(client.get("/models/unknown"), 404, "digits, scenes, warm, zero")
    assert_problem(client.get("/models/digits/versions/7"), 404, "there is 1, 2")


def test_another_method(client: httpx.Client) -> None:
    response = client.get("/predict")
    assert_problem(response, 405)
    assert response.headers["allow"] == "POST"


def test_too_many_pixels_name_the_limit_and_its_setting(client: httpx.Client) -> None:
    bomb = png(np.zeros((1001, 1000), np.uint8))
    response = client.post("/predict", content=bomb, headers=PNG)
    assert_problem(response, 413, "1000000 pixels", "LOGITSERVE_MAX_PIXELS")


def test_too_many_pictures_name_the_limit_and_its_setting(client: httpx.Client) -> None:
    for response in (
        client.post("/predict", files=[("file", GOOD)] * 41),
        client.post("/predict", json={"images": [GOOD_TEXT] * 41}),
        client.post("/predict", json={"pixels": [[[0] * 5] * 5] * 41}),
    ):
        assert_problem(response, 413, "limit of 40", "LOGITSERVE_MAX_PICTURES")


def test_a_body_that_announces_too_much(client: httpx.Client) -> None:
    response = client.post("/predict", content=b"\x00" * 1_000_001, headers=PNG)
    assert_problem(response, 413, "1000000 bytes", "LOGITSERVE_MAX_BODY_BYTES")


def test_a_body_in_chunks_that_becomes_too_much(client: httpx.Client) -> None:
    chunks = (b"\x00" * 100_000 for _ in range(11))
    assert_problem(client.post("/predict", content=chunks, headers=PNG), 413, "1000000 bytes")


def test_a_form_that_is_too_large(client: httpx.Client) -> None:
    response = client.post("/predict", files={"file": b"\x00" * 1_000_000})
    assert_problem(response, 413, "1000000 bytes")


def test_one_bad_picture_does_not_spoil_the_next_request(client: httpx.Client) -> None:
    for _ in range(3):
        assert client.post("/predict", content=b"bad", headers=PNG).status_code == 422
        assert client.post("/predict", content=GOOD, headers=PNG).status_code == 200
