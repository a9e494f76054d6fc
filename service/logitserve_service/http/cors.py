"""Cross-origin resource sharing: which other sites may call the service (Fetch, 3.2)."""

from typing import Final

from logitserve_service.config.settings import environment_name
from logitserve_service.errors import ForbiddenError
from logitserve_service.http.messages import RequestHead, Response, lines

METHODS: Final = b"GET, POST"
REQUEST_HEADERS: Final = b"*, Authorization"
"""Any header, as unknown ones are ignored. The wildcard does not include `Authorization`."""
RESPONSE_HEADERS: Final = (
    b"Inference-Header-Content-Length, Logitserve-Warnings, Retry-After, Server-Timing, "
    b"X-Prediction-ID, X-Request-ID"
)
PREFLIGHT_SECONDS: Final = b"600"
"""How long a browser may cache the response to a preflight."""


class Cors:
    """Makes headers that allow pages of some origins to read responses; `*` is any origin.

    Cookies and HTTP authentication are never allowed, so `*` is safe.
    """

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = {origin.encode() for origin in origins}
        self.enabled = bool(origins)

    def headers(self, origin: bytes | None) -> bytes:
        """Return the header lines of responses to a request from this origin."""
        expose = (b"access-control-expose-headers", RESPONSE_HEADERS)
        if b"*" in self._origins:
            return lines([(b"access-control-allow-origin", b"*"), expose])
        vary = (b"vary", b"Origin")
        if origin is None or origin not in self._origins:
            return lines([vary])
        return lines([vary, (b"access-control-allow-origin", origin), expose])

    def preflight(self, head: RequestHead) -> Response | None:
        """Return the response to a preflight request, which has no key; None for other requests.

        Raises:
            ForbiddenError: the origin is not allowed.
        """
        if head.method != "OPTIONS" or b"access-control-request-method" not in head.fields:
            return None
        origin = head.fields.get(b"origin", b"")
        if not {origin, b"*"} & self._origins:
            shown = origin.decode("latin-1")
            raise ForbiddenError(
                f"pages of the origin {shown!r} may not call this service "
                f"(setting {environment_name('cors_origins')})"
            )
        headers = [
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", REQUEST_HEADERS),
            (b"access-control-max-age", PREFLIGHT_SECONDS),
        ]
        return Response(200, lines(headers))
