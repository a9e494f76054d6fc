"""What surrounds the predictions: models, probes, documentation."""

import re
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from logitserve_service.api.schemas import ModelDetail, ModelList
from tests.e2e.conftest import MODELS


def test_the_list_of_models(client: httpx.Client) -> None:
    listed = ModelList.model_validate_json(client.get("/models").content).models
    assert [model.name for model in listed] == MODELS
    assert [model.name for model in listed if model.default] == ["digits"]
    by_name = {model.name: model for model in listed}
    assert by_name["digits"].version == "2"
    assert by_name["digits"].versions == ["1", "2"]
    assert by_name["scenes"].labels == ["car", "bus", "pedestrian"]


def test_a_model_with_its_card(client: httpx.Client) -> None:
    body = client.get("/models/scenes").json()
    detail = ModelDetail.model_validate(body)
    assert detail.card.input.channels == 3
    assert detail.card.thresholds == (0.2, 0.5, 0.8)
    assert "goldens" not in body["card"]


def test_a_version_of_a_model(client: httpx.Client) -> None:
    assert client.get("/models/digits").json()["version"] == "2"
    assert client.get("/models/digits/versions/1").json()["card"]["version"] == "1"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz", "/healthz", "/health", "/ping"])
def test_probes(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


@pytest.mark.parametrize("path", ["/readyz", "/models", "/metrics", "/docs", "/v2/models/digits"])
def test_head_is_get_without_the_body(client: httpx.Client, path: str) -> None:
    response = client.head(path)
    assert response.status_code == 200
    assert response.content == b""
    assert int(response.headers["content-length"]) > 0


@pytest.mark.parametrize("path", ["/predict/", "/models/", "/readyz/"])
def test_a_path_with_a_slash_more_is_another_path(client: httpx.Client, path: str) -> None:
    """A redirect would name the host and the scheme that a proxy hides."""
    for response in (client.get(path), client.post(path)):
        assert response.status_code in (404, 405)
        assert "location" not in response.headers


def test_the_documentation_needs_no_other_host(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert loaded
    for address in loaded:
        assert urlsplit(address).netloc == "", address
        assert client.get(urljoin("/docs", address)).status_code == 200


def test_openapi_describes_every_body_and_error(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path in (
        "/predict",
        "/models/{name}/predict",
        "/models/{name}/versions/{version}/predict",
    ):
        operation = paths[path]["post"]
        bodies = operation["requestBody"]["content"]
        assert {"image/png", "multipart/form-data", "application/json"} <= set(bodies)
        assert {"200", "400", "404", "413", "415", "422", "503"} <= set(operation["responses"])
        assert "top_k" in [parameter["name"] for parameter in operation["parameters"]]


def test_the_examples_of_the_documentation_work(client: httpx.Client) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    assert set(examples) == {"images", "pixels"}
    for example in examples.values():
        assert client.post("/predict", json=example["value"]).status_code == 200
