"""Routes with a model name: inference routes, and routes that FastAPI serves."""

import re
import urllib.parse
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, Final, NamedTuple

import httptools
from fastapi import APIRouter, Depends, Request

from logitserve.inference.errors import ModelNotFoundError
from logitserve_service.errors import UnreadableRequestError
from logitserve_service.repository.catalog import Catalog
from logitserve_service.repository.loaded_model import LoadedModel

PREDICT: Final = "/predict"
VERSION: Final = "/versions/{version}"
LABEL: Final = "/labels/{label}"
VERSION_LABELS: Final = ("stable", "latest")
"""TensorFlow Serving's version labels; both mean the version used if none is named."""
MAX_CACHED: Final = 256
"""Maximum bytes of a cached target. No model has longer ones, so they would only cost memory."""

TEMPLATES: Final = (
    ("predict", PREDICT),
    ("predict", "/models/{name}/predict"),
    ("predict", "/models/{name}/versions/{version}/predict"),
    ("v2", "/v2/models/{name}/infer"),
    ("v2", "/v2/models/{name}/versions/{version}/infer"),
    ("v1", "/v1/models/{name}:predict"),
    ("v1", "/v1/models/{name}/versions/{version}:predict"),
    ("v1", "/v1/models/{name}/labels/{label}:predict"),
)
"""Form and documented path of every inference route."""


def _pattern(template: str) -> re.Pattern[str]:
    """Compile a template: a parameter matches one segment, with colons only in `{name}/`."""
    text = template.replace("{name}/", "(?P<name>[^/]+)/")
    return re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/:]+)", text))


_PATTERNS: Final = [(form, template, _pattern(template)) for form, template in TEMPLATES]


class Route(NamedTuple):
    """An inference route with the parameters of its path."""

    form: str  # `predict`, `v2` or `v1`
    template: str  # the documented path
    name: str | None = None  # name of the model; None for the default model
    version: str | None = None
    label: str | None = None  # TensorFlow Serving's version label


class Target(NamedTuple):
    """The parsed target of a request line."""

    path: str
    """The decoded path without the prefix of the setting `root_path`."""
    raw_path: bytes
    query: bytes
    """The query without the question mark."""
    route: Route | None
    """The inference route; None for any other route."""


def parse(target: bytes, root_path: str = "") -> Target:
    """Parse a target; raises UnreadableRequestError if it is not valid."""
    cached = len(target) <= MAX_CACHED
    return _parse(target, root_path) if cached else _parse.__wrapped__(target, root_path)


@lru_cache(1024)
def _parse(target: bytes, root_path: str) -> Target:
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError as error:
        raise UnreadableRequestError("this is not HTTP/1.1: the target is not a URL") from error
    if url.path is None:
        raise UnreadableRequestError("this is not HTTP/1.1: the target has no path")
    path = url.path.decode("ascii")
    path = without(root_path, urllib.parse.unquote(path) if "%" in path else path)
    return Target(path, url.path, url.query or b"", match(path))


def without(root_path: str, path: str) -> str:
    """Return a path without the prefix, which the proxy may have removed already."""
    if root_path and (path == root_path or path.startswith(f"{root_path}/")):
        return path[len(root_path) :] or "/"
    return path


def match(path: str) -> Route | None:
    """Return the inference route of a path; None for any other path."""
    for form, template, pattern in _PATTERNS:
        if found := pattern.fullmatch(path):
            return Route(form, template, **found.groupdict())
    return None


def find(catalog: Catalog, route: Route) -> LoadedModel:
    """Return the model of a route; raises ModelNotFoundError, or like `Catalog.find`."""
    if route.label is not None and route.label not in VERSION_LABELS:
        raise ModelNotFoundError(
            f"no version label {route.label!r} of model {route.name!r}; use "
            f"{' or '.join(VERSION_LABELS)}, or a version number"
        )
    return catalog.find(route.name, route.version)


async def _model_of_path(request: Request) -> LoadedModel:
    model = find(request.app.state.catalog, Route("", "", **request.path_params))
    request.state.card = model.card
    return model


ModelOfPath = Annotated[LoadedModel, Depends(_model_of_path)]
"""A FastAPI dependency: the model of the path."""


def add(
    routes: APIRouter,
    path: str,
    endpoint: Callable[..., Any],
    *,
    methods: tuple[str, ...] = ("GET",),
    suffixes: tuple[str, ...] = ("", VERSION),
    **documented: Any,
) -> None:
    """Register an endpoint for `path`, and for its variants with a version or label.

    The operation's name is the endpoint's name, with `_version` or `_label` for the variants.
    """
    names = {"": "", VERSION: "_version", LABEL: "_label"}
    for suffix in suffixes:
        routes.add_api_route(
            path.replace("{name}", "{name}" + suffix),
            endpoint,
            methods=[*methods],
            name=endpoint.__name__ + names[suffix],
            **documented,
        )
