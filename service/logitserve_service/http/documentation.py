"""The route `/docs`, and its OpenAPI document."""

import base64
import copy
import hashlib
import re
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html

from logitserve_service.api import openapi as forms
from logitserve_service.http.page import PAGE_HEADERS
from logitserve_service.http.routes import TEMPLATES

FILES: Final = "static-offline-docs"
"""Path at which fastapi-offline serves the scripts that FastAPI loads from another host."""
FILES_PATH: Final = f"/{FILES}/"
PATHS: Final = frozenset({"/docs", "/openapi.json"})

SECURITY_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_PARAMETER: Final = re.compile(r"{(\w+)}")
_PARAMETERS: Final = {
    "name": "name of the model",
    "version": "version of the model, a number",
    "label": "`stable` or `latest`",
}


def router(title: str) -> APIRouter:
    """Make the route of the page; its Content-Security-Policy permits one script by its digest."""
    # Addresses are relative, so that a proxy can add a prefix.
    page = bytes(
        get_swagger_ui_html(
            openapi_url="openapi.json",
            title=title,
            swagger_js_url=f"{FILES}/swagger-ui-bundle.js",
            swagger_css_url=f"{FILES}/swagger-ui.css",
            swagger_favicon_url="web/icon.svg",
        ).body
    )
    (script,) = re.findall(rb"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    headers = PAGE_HEADERS | {
        "Content-Security-Policy": (
            f"default-src 'none'; script-src 'self' 'sha256-{digest}'; style-src 'self'; "
            "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
    }
    routes = APIRouter(include_in_schema=False)

    @routes.get("/docs")
    async def documentation() -> Response:
        return Response(page, media_type="text/html", headers=headers)

    return routes


def complete(app: FastAPI, open_paths: frozenset[str], *, keys: bool) -> None:
    """Add the inference routes, which FastAPI does not serve, to the OpenAPI document.

    `keys` states whether paths need a key, except for the open paths.
    """
    described = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        document = described()
        document["paths"] = _inference() | document["paths"]
        components = document.setdefault("components", {})
        components["schemas"] = components.get("schemas", {}) | forms.components()
        for name in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(name, None)
        for path, operations in document["paths"].items():
            for operation in operations.values():
                _summarize(operation)
                responses = operation["responses"]
                if "422" in responses:  # FastAPI's own schema for 422 is never sent
                    responses["422"] = forms.problems(422)[422]
                _add_path_parameters(path, operation)
                if keys and path not in open_paths:
                    operation["security"] = [{name: []} for name in SECURITY_SCHEMES]
                    responses["401"] = forms.problems(401)[401]
        if keys:
            components["securitySchemes"] = SECURITY_SCHEMES
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI documents it


_FORMS: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "predict": (
        "predict",
        "Class probabilities of images.",
        {
            "parameters": forms.PREDICT_PARAMETERS,
            "responses": forms.PREDICT_RESPONSE,
            **forms.PREDICT_BODY,
        },
    ),
    "v2": (
        "open inference protocol",
        "Logits, probabilities and argmax of a tensor.",
        {**forms.INFER_BODY, "responses": forms.INFER_RESPONSE},
    ),
    "v1": (
        "tensorflow serving",
        "Probabilities of images.",
        {**forms.V1_PREDICT_BODY, "responses": forms.V1_PREDICT_RESPONSE},
    ),
}
"""Form → tag, summary and other members of the OpenAPI operation."""
_PROBLEMS: Final = (400, 404, 408, 413, 415, 422, 429, 503, 504)


def _inference() -> dict[str, Any]:
    """Return the OpenAPI paths of the inference routes."""
    paths = {}
    for form, template in TEMPLATES:
        tag, summary, described = _FORMS[form]
        responses = described["responses"] | forms.problems(*_PROBLEMS)
        operation = {
            "tags": [tag],
            "summary": summary,
            "operationId": "_by_".join([form, *_PARAMETER.findall(template)[-1:]]),
            **described,
            "responses": {str(status): response for status, response in responses.items()},
        }
        paths[template] = {"post": copy.deepcopy(operation)}
    return paths


def _summarize(operation: dict[str, Any]) -> None:
    """Replace FastAPI's summary, made of the name, by the first line of the description."""
    description = operation.pop("description", "")
    if description:
        operation["summary"], _, rest = description.partition("\n\n")
        if rest:
            operation["description"] = rest


def _add_path_parameters(path: str, operation: dict[str, Any]) -> None:
    parameters = operation.setdefault("parameters", [])
    described = {parameter["name"] for parameter in parameters if parameter["in"] == "path"}
    for name in _PARAMETER.findall(path):
        if name not in described:
            described_as = {"description": _PARAMETERS[name], "schema": {"type": "string"}}
            parameters.append({"name": name, "in": "path", "required": True, **described_as})
