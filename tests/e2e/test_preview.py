"""`POST /models/{name}/preview`: what the network gets, and what was done to it."""

import base64
import io
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from logitserve.inference import preprocessing
from logitserve.inference.card import Fit, InputSpec
from logitserve.inference.image_warnings import ImageWarning
from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import MODEL_FILE
from logitserve_service.http.preview import MEANING
from logitserve_training.drawings import SHEET, Paper, draw
from tests.e2e.conftest import COLOR, Weights
from tests.e2e.profiles import SETTINGS
from tests.tiny_models import encode, png

DIGIT = InputSpec(height=28, width=28, channels=1, fit=Fit.DIGIT)
BLACKBOARD = Paper(120, 120, (0, 0, 0), (255, 255, 255))


def seen(response: httpx.Response) -> npt.NDArray[np.uint8]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    assert response.headers["cache-control"] == "no-store"
    return np.asarray(Image.open(io.BytesIO(response.content)))


def warnings(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    header = response.headers.get("logitserve-warnings")
    return header.split(", ") if header is not None else []


def sheet() -> bytes:
    return encode(draw(3, seed=1, paper=SHEET), "PNG")


@pytest.mark.parametrize(("name", "spec"), [("digits-mlp", DIGIT), ("scenes", COLOR)])
def test_every_body_form_shows_the_picture_as_the_network_gets_it(
    client: httpx.Client, name: str, spec: InputSpec
) -> None:
    picture = sheet()
    expected = preprocessing.decode(picture, spec)
    text = base64.b64encode(picture).decode()
    array = np.asarray(Image.open(io.BytesIO(picture)))
    for path in (f"/models/{name}/preview", f"/models/{name}/versions/1/preview"):
        for response in (
            client.post(path, content=picture, headers={"content-type": "image/png"}),
            client.post(path, content=picture),
            client.post(path, files={"file": picture}),
            client.post(path, json={"images": [text]}),
            client.post(path, json={"images": [f"data:image/png;base64,{text}"]}),
            client.post(path, json={"pixels": array.tolist()}),
        ):
            np.testing.assert_array_equal(seen(response).reshape(spec.shape), expected)


def test_the_network_gives_its_preview_the_same_probabilities(
    client: httpx.Client, models: tuple[Path, Weights]
) -> None:
    predictor = Predictor.load(models[0] / "digits-mlp" / "1" / MODEL_FILE)
    preview = seen(client.post("/models/digits-mlp/preview", content=sheet()))
    own = predictor.predict(preview[np.newaxis, :, :, np.newaxis]).probabilities[0]
    served = client.post("/models/digits-mlp/predict", content=sheet()).json()["predictions"][0]
    np.testing.assert_allclose(list(served["probabilities"].values()), own, atol=1e-6)


def test_no_warning_where_nothing_was_done(client: httpx.Client) -> None:
    drawing = encode(draw(3, seed=1, paper=BLACKBOARD), "PNG")
    response = client.post("/models/digits-mlp/preview", content=drawing)
    assert warnings(response) == []
    assert "logitserve-warnings" not in response.headers


def test_warnings_come_in_the_order_in_which_they_arose(client: httpx.Client) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(draw(3, seed=1, paper=SHEET), "JPEG", exif=exif)
    posted = client.post("/models/digits-mlp/preview", content=turned)
    assert warnings(posted) == ["turned-by-exif", "inverted"]
    posted = client.post("/models/scenes/preview", content=turned)
    assert warnings(posted) == ["turned-by-exif"]
    posted = client.post("/models/scenes/preview", content=sheet())
    assert warnings(posted) == ["squashed"]


def test_an_empty_picture_says_why(client: httpx.Client) -> None:
    blank = png(np.full((60, 60), 255, np.uint8))
    assert warnings(client.post("/models/digits-mlp/preview", content=blank)) == ["blank"]
    shadow = png(np.tile(np.linspace(60, 220, 200), (200, 1)).astype(np.uint8))
    response = client.post("/models/digits-mlp/preview", content=shadow)
    assert warnings(response) == ["nothing-found"]
    assert not seen(response).any()


def test_openapi_describes_the_bodies_the_picture_and_every_warning(client: httpx.Client) -> None:
    assert set(MEANING) == set(ImageWarning)
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/models/{name}/preview", "/models/{name}/versions/{version}/preview"):
        operation = paths[path]["post"]
        bodies = operation["requestBody"]["content"]
        assert {"image/png", "multipart/form-data", "application/json"} <= set(bodies)
        assert set(operation["responses"]["200"]["content"]) == {"image/png"}
        header = operation["responses"]["200"]["headers"]["Logitserve-Warnings"]
        for token in ImageWarning:
            assert f"`{token}`" in header["description"]


def test_what_cannot_be_shown_is_a_problem(client: httpx.Client) -> None:
    large = png(np.zeros((1001, 1000), np.uint8))
    for path, content, status, words in (
        ("/models/unknown/preview", sheet(), 404, "digits-mlp"),
        ("/models/digits-mlp/versions/9/preview", sheet(), 404, "there is 1"),
        ("/models/digits-mlp/preview", b"text", 422, "not a supported image"),
        ("/models/digits-mlp/preview", b"", 422, "empty"),
        ("/models/digits-mlp/preview", large, 413, SETTINGS["pixels"]),
    ):
        response = client.post(path, content=content)
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        assert words in response.json()["detail"]


def test_a_preview_is_of_one_picture(client: httpx.Client) -> None:
    response = client.post("/models/digits-mlp/preview", files=[("file", sheet())] * 2)
    assert response.status_code == 422
    assert "one image, and the request has 2" in response.json()["detail"]
