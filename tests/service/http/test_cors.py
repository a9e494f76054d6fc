"""Which pages of other sites may call."""

import pytest

from logitserve_service.errors import ForbiddenError
from logitserve_service.http.cors import Cors
from logitserve_service.http.messages import pairs
from tests.service.serving import head

ALLOW = b"access-control-allow-origin"
PREFLIGHT = (b"access-control-request-method", b"POST")


@pytest.mark.parametrize(
    ("origins", "origin", "allowed", "varies"),
    [
        (("*",), b"http://a", b"*", False),
        (("*",), None, b"*", False),
        (("http://a", "http://b"), b"http://a", b"http://a", True),
        (("http://a",), b"http://c", None, True),
        (("http://a",), None, None, True),
    ],
)
def test_responses(
    origins: tuple[str, ...], origin: bytes | None, allowed: bytes | None, *, varies: bool
) -> None:
    headers = dict(pairs(Cors(origins).headers(origin)))
    assert headers.get(ALLOW) == allowed
    assert (headers.get(b"vary") == b"Origin") == varies
    assert (b"access-control-expose-headers" in headers) == (allowed is not None)


def test_preflights() -> None:
    cors = Cors(("http://a",))
    asked = head("OPTIONS", "/predict", (b"origin", b"http://a"), PREFLIGHT)
    response = cors.preflight(asked)
    assert response is not None
    fields = dict(pairs(response.head))
    assert (response.status, fields[b"access-control-allow-methods"]) == (200, b"GET, POST")
    assert fields[b"access-control-allow-headers"] == b"*, Authorization"
    with pytest.raises(ForbiddenError, match="LOGITSERVE_CORS_ORIGINS"):
        cors.preflight(head("OPTIONS", "/predict", (b"origin", b"http://c"), PREFLIGHT))
    assert cors.preflight(head("OPTIONS", "/predict", (b"origin", b"http://a"))) is None
    assert cors.preflight(head("POST", "/predict", PREFLIGHT)) is None


def test_it_can_be_off() -> None:
    assert not Cors(()).enabled
