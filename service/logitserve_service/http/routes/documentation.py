"""`/docs`: the routes, to read and to try; and the OpenAPI document behind it."""

import base64
import hashlib
import re
from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html

from logitserve_service.api.schemas import problems
from logitserve_service.http.headers import PAGE_HEADERS
from logitserve_service.http.routes.probes import PROBES

FILES: Final = "static-offline-docs"
"""Where fastapi-offline serves the scripts that FastAPI would load from another host."""

SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_METHODS: Final = ("get", "post", "put", "delete", "patch")


def router(title: str) -> APIRouter:
    """The page; its one script is named by its digest, so that no other may run."""
    # Addresses are relative, so that a proxy may add a prefix.
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


def describe_keys(app: FastAPI) -> None:
    """Let the OpenAPI document say that keys are asked, and for what."""
    describe: Callable[[], dict[str, Any]] = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        document = describe()
        document.setdefault("components", {})["securitySchemes"] = SCHEMES
        for path, operations in document["paths"].items():
            if path not in PROBES:
                for method in operations.keys() & set(_METHODS):
                    operations[method]["security"] = [{name: []} for name in SCHEMES]
                    operations[method]["responses"].update(
                        {str(status): answer for status, answer in problems(401).items()}
                    )
        return document

    app.openapi = described  # type: ignore[method-assign]  # as FastAPI documents it
