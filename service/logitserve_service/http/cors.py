"""Cross-origin requests: which pages of other sites may ask, in a browser (CORS)."""

import re
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

METHODS: Final = ("GET", "POST")
REQUEST_HEADERS: Final = (
    "Authorization",
    "Content-Type",
    "Inference-Header-Content-Length",
    "X-API-Key",
    "X-Request-ID",
    "X-Request-Timeout-Ms",
    "traceparent",
)
RESPONSE_HEADERS: Final = (
    "Inference-Header-Content-Length",
    "Logitserve-Warnings",
    "Retry-After",
    "Server-Timing",
    "X-Request-ID",
)

_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


def parse_origins(text: str) -> tuple[str, ...]:
    """The origins of a text, separated by spaces or commas; `*` stands for any.

    Raises:
        ValueError: one of them is no origin.
    """
    origins = tuple(re.split(r"[\s,]+", text.strip())) if text.strip() else ()
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin!r} is no origin; one is a scheme and a host, such as "
                "https://example.org, in lower case and without a path"
            )
    return origins


def allowing(origins: tuple[str, ...], app: ASGIApp) -> ASGIApp:
    """The app, open to pages of these origins.

    A preflight is answered before a key is asked, as browsers send none with it. Cookies and the
    passwords that a browser keeps are never asked for, so that any origin may be allowed.
    """
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=REQUEST_HEADERS,
        expose_headers=RESPONSE_HEADERS,
    )
