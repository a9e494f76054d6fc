"""Paths of inference."""

import pytest

from logitserve.inference.errors import ModelNotFoundError
from logitserve_service.http.routes import MAX_CACHED, TEMPLATES, Route, _parse, find, match, parse
from tests.service.serving import Bench


@pytest.mark.parametrize(("form", "template"), TEMPLATES)
def test_every_template_matches_its_paths(form: str, template: str) -> None:
    names = {"name": "tiny", "version": "3", "label": "stable"}
    found = match(template.format(**names))
    expected = {name: value for name, value in names.items() if f"{{{name}}}" in template}
    assert found == Route(form, template, **expected)


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/predict/", "/predict\n", "/models//predict", "/models/a/b/predict"),
        *("/v1/models/a:classify", "/v2/models/a/versions//infer"),
        "/v1/models/a/labels/b/c:predict",
    ],
)
def test_other_paths(path: str) -> None:
    assert match(path) is None


def test_long_paths_are_not_kept() -> None:
    _parse.cache_clear()
    name = "a" * MAX_CACHED
    found = parse(f"/models/{name}/predict".encode()).route
    assert found is not None
    assert found.name == name
    assert _parse.cache_info().currsize == 0


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/predict", None),
        ("/v1/models/tiny/labels/latest:predict", None),
        ("/v1/models/tiny/labels/canary:predict", "no version label 'canary'"),
        ("/models/tinny/predict", "did you mean 'tiny'"),
        ("/models/tiny/versions/9/predict", "9"),
    ],
)
def test_the_model_of_a_route(of_module: Bench, path: str, message: str | None) -> None:
    route = match(path)
    assert route is not None
    if message is None:
        assert find(of_module.endpoint.catalog, route).card.name == "tiny"
    else:
        with pytest.raises(ModelNotFoundError, match=message):
            find(of_module.endpoint.catalog, route)
