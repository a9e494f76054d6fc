"""How errors are checked: as problem documents that say what to do, and nothing of the server."""

import json
import re
from http import HTTPStatus

import httpx

from tests.forms import Form, Reply

PROBLEM_JSON = "application/problem+json"


def assert_problem(response: httpx.Response, status: int, *words: str) -> None:
    """Every response is such a document, whichever form the request has."""
    reply = Reply(response.status_code, response.content, response.headers)
    assert reply.status == status, response.text
    detail = assert_document(reply)
    for word in words:
        assert word in detail


def assert_document(reply: Reply) -> str:
    """Check the document and the header fields; returns its detail."""
    assert reply.headers["content-type"] == PROBLEM_JSON
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["x-request-id"]
    problem = json.loads(reply.body)
    assert problem["status"] == reply.status
    assert problem["title"] == HTTPStatus(reply.status).phrase
    assert problem["type"] == "about:blank"
    assert problem["error"] == problem["detail"]
    return harmless(problem["detail"])


def harmless(detail: str) -> str:
    assert "Traceback" not in detail
    assert not re.search(r"(^|[\s'\"])/\w", detail), "a path of the server"
    assert len(detail) < 1000
    return detail


def detail_of(form: Form, reply: Reply) -> str:
    """The text of an error in a form, all of it checked."""
    detail = form.detail(reply)
    assert harmless(detail) == (assert_document(reply) if form.over_http else detail)
    return detail
