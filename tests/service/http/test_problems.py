"""Errors as problem documents."""

import json

import pytest

from logitserve.inference.errors import TooManyPixelsError, UnreadableImageError
from logitserve_service import errors
from logitserve_service.http import problems
from logitserve_service.http.messages import pairs
from logitserve_service.http.problems import MAX_DETAIL, PROBLEM_JSON, fit_to_send, of_error


def numbered(error: UnreadableImageError, image: int) -> UnreadableImageError:
    error.image = image
    return error


E = errors
NONE: dict[bytes, bytes] = {}
CASES: list[tuple[Exception, int, dict[bytes, bytes], str]] = [
    (E.QueueFullError(5, 7), 429, {b"retry-after": b"7"}, "LOGITSERVE_MAX_QUEUE"),
    (E.TooManyBytesError(5), 429, {b"retry-after": b"1"}, "LOGITSERVE_MAX_BUFFERED_BYTES"),
    (E.NotReadyError("no model is loaded"), 503, {b"retry-after": b"1"}, "no model is loaded"),
    (E.UnauthenticatedError(wrong=True), 401, {b"www-authenticate": b"Bearer"}, "not valid"),
    (E.MethodNotAllowedError("GET", "POST"), 405, {b"allow": b"POST"}, "send POST"),
    (E.BodyTooLargeError(5), 413, NONE, "(setting LOGITSERVE_MAX_BODY_BYTES)"),
    (TooManyPixelsError(9, 9, 5), 413, NONE, "9×9"),
    (E.UnusableRequestError("no such input"), 422, NONE, "no such input"),
    (numbered(UnreadableImageError("not whole"), 3), 422, NONE, "image 3: not whole"),
    (E.AdminKeyUnsetError(), 403, NONE, "LOGITSERVE_ADMIN_KEY"),
]


@pytest.mark.parametrize("form", ["predict", "v2", "v1"])
@pytest.mark.parametrize(("error", "status", "headers", "detail"), CASES)
def test_errors(
    error: Exception, status: int, headers: dict[bytes, bytes], detail: str, form: str
) -> None:
    response = of_error(error, form)
    expected = 400 if form == "v1" and status == 422 else status
    document = json.loads(response.body)
    assert response.status == document["status"] == expected
    assert dict(pairs(response.head)) == {b"content-type": PROBLEM_JSON.encode(), **headers}
    assert document["error"] == document["detail"]
    assert detail in document["detail"]
    closing = E.BodyTooLargeError | E.TooManyBytesError | TooManyPixelsError
    assert response.close == isinstance(error, closing)


def test_the_text_of_an_unexpected_error_stays_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    response = of_error(RuntimeError("secret"))
    assert response.status == 500
    assert b"secret" not in response.body
    assert "secret" in caplog.text


@pytest.mark.parametrize("detail", ["a" * 10_000, "\ud800", "\ud800" * 10_000])
def test_a_detail_can_be_sent(detail: str) -> None:
    sent = fit_to_send(detail)
    assert len(sent.encode()) <= MAX_DETAIL + 4
    assert json.loads(problems.problem(400, sent).body)["detail"] == sent
