"""Headers that tell a browser what not to do with an answer."""

from typing import Final

NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
"""With every answer: it is what its content type says."""

PAGE_HEADERS: Final = {
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": (
        "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"
    ),
}
"""With every page; its Content-Security-Policy is its own."""
