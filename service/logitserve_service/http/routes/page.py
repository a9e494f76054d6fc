"""`/`: the page to draw on, from the files in `http/web`; no other host is involved."""

import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from fastapi import APIRouter, Request, Response

from logitserve_service.http.headers import PAGE_HEADERS

ASSETS_PATH: Final = "/web"

TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

HEADERS: Final = PAGE_HEADERS | {
    # The picture that the network sees, and the icons, are the only things not loaded by address.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    # Kept, but asked about each time: the answer is a 304, and a new version shows at once.
    "Cache-Control": "no-cache",
}


_FILES = sorted((files("logitserve_service.http") / "web").iterdir(), key=lambda entry: entry.name)


def _path(file: Traversable) -> str:
    return "/" if file.name == "index.html" else f"{ASSETS_PATH}/{file.name}"


PATHS: Final = frozenset(map(_path, _FILES))
"""Of the page and of what it loads."""


def router() -> APIRouter:
    """The page and what it loads, read once."""
    routes = APIRouter(include_in_schema=False)
    for file in _FILES:
        path = _path(file)
        suffix = file.name[file.name.rindex(".") :]
        _add(routes, path, file.read_bytes(), TYPES[suffix])
    return routes


def _add(routes: APIRouter, path: str, content: bytes, media_type: str) -> None:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**HEADERS, "ETag": etag}

    @routes.api_route(path, methods=["GET", "HEAD"])
    async def asset(request: Request) -> Response:
        if _is_known(request.headers.get("if-none-match", ""), etag):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)


def _is_known(if_none_match: str, etag: str) -> bool:
    """Whether the client has this already (RFC 9110, section 13.1.2: weak comparison)."""
    given = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in given or "*" in given
