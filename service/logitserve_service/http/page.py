"""The drawing page at `/`, from the files in `http/web`; it loads nothing from other hosts.

Requests that do not accept HTML get the liveness response of KServe's V1 protocol.
"""

import hashlib
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGE_HEADERS: Final = {
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": (
        "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"
    ),
}
"""Headers of every page; each page adds its own Content-Security-Policy."""
HEADERS: Final = PAGE_HEADERS | {
    # Only the preview of the network's input and the icons are blob or data URLs.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    # Revalidated each time, so that a new version is used at once.
    "Cache-Control": "no-cache",
    "Vary": "Accept",
}

_FILES: Final = {
    "/" if file.name == "index.html" else f"/web/{file.name}": file
    for file in (files("logitserve_service.http") / "web").iterdir()
}

PATHS: Final = frozenset(_FILES)


def router() -> APIRouter:
    """Make the routes of the page and its files, which are read once."""
    routes = APIRouter(include_in_schema=False)
    for path, file in sorted(_FILES.items()):
        _add(routes, path, file.read_bytes(), TYPES[file.name[file.name.rindex(".") :]])
    return routes


def _add(routes: APIRouter, path: str, content: bytes, media_type: str) -> None:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**HEADERS, "ETag": etag}

    @routes.api_route(path, methods=["GET", "HEAD"])
    async def asset(request: Request) -> Response:
        root_path = request.scope["root_path"]
        if root_path and request.scope["raw_path"].decode("latin-1") == root_path:
            # The URLs in the page are relative to a path that ends with a slash.
            return RedirectResponse(f"{root_path.rpartition('/')[2]}/")
        if path == "/" and "text/html" not in request.headers.get("accept", ""):
            return JSONResponse({"status": "alive"}, headers=headers)
        # RFC 9110, section 13.1.2: weak comparison.
        tags = request.headers.get("if-none-match", "").split(",")
        if {etag, "*"} & {tag.strip().removeprefix("W/") for tag in tags}:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)
