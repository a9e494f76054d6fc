"""The same fault has the same answer in every form, and is counted and logged once."""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest

from tests.e2e.conftest import MODELS
from tests.e2e.faults import FAULTS, IMAGE, Fault
from tests.e2e.metrics import total, wait_until
from tests.e2e.problems import assert_problem, detail_of
from tests.e2e.process import Server
from tests.forms import FORMS, Ask, Form, Reply

numbers = count()
sent: Counter[tuple[str, int]] = Counter()
"""Ids and statuses of what was sent over HTTP."""

CASES = [(fault, form) for fault in FAULTS for form in FORMS if fault.applies(form)]


def send(server: Server, form: Form, ask: Ask) -> Reply:
    """With an id by which it is found in the log."""
    if not form.over_http:
        return form.send(server, ask)
    request_id = f"fault-{next(numbers)}."
    reply = form.send(server, replace(ask, fields=[*ask.fields, ("X-Request-ID", request_id)]))
    assert reply.headers["x-request-id"] == request_id
    sent[request_id, reply.status] += 1
    return reply


@pytest.mark.parametrize(("fault", "form"), CASES, ids=str)
def test_a_fault(profile: Callable[[str], Server], fault: Fault, form: Form) -> None:
    server = profile(fault.profile)
    reply = send(server, form, fault.make(form))
    assert reply.status == form.status(fault.status), reply
    detail = detail_of(form, reply)
    for word in fault.words:
        assert re.search(word, detail), detail
    if form.over_http:
        for name in fault.fields:
            assert name in reply.headers
        assert reply.headers.get("allow", "POST") == "POST"
    if fault.same:
        first = next(first for first in FORMS if fault.applies(first))
        assert detail == first.detail(send(server, first, fault.make(first)))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_an_unknown_model_names_those_there_are(server: Server, form: Form) -> None:
    detail = form.detail(send(server, form, Ask([IMAGE], model="unknown")))
    assert ", ".join(MODELS) in detail


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_what_is_quoted_is_cut(server: Server, form: Form) -> None:
    reply = send(server, form, Ask([IMAGE], model="x" * 20_000))
    assert reply.status == 404
    assert len(form.detail(reply)) < 1000


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_fault_does_not_spoil_the_next_request(server: Server, form: Form) -> None:
    bad = Ask([IMAGE], version="9")
    replies = [send(server, form, ask) for ask in (bad, Ask([IMAGE]), bad, Ask([IMAGE]))]
    assert [reply.status for reply in replies] == [404, 200, 404, 200]


def test_each_was_logged_once(profile: Callable[[str], Server]) -> None:
    """All that were sent above."""
    logs = [profile(name).log for name in ("plain", "locked")]
    wanted = dict.fromkeys(sent, 1)

    def found() -> Counter[tuple[str, int]]:
        lines = [line for log in logs for line in list(log)]
        return Counter(pair for line in lines if (pair := logged(line)) is not None)

    wait_until(lambda: found() >= Counter(wanted), lambda: f"{wanted.items() - found().items()}")
    assert found() == wanted


def logged(line: str) -> tuple[str, int] | None:
    """Id and status of an access log line, text or JSON."""
    if '"logitserve.access"' in line and '"request_id":"fault-' in line:
        record = json.loads(line)
        return record["request_id"], record["status"]
    match = re.search(r'" (\d+) \d+ bytes .*request_id=(fault-\d+\.)', line)
    return (match[2], int(match[1])) if match else None


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_each_is_counted_once(server: Server, locked: Server, form: Form) -> None:
    for at, ask, status in (
        (server, Ask([IMAGE], version="9"), 404),
        (server, Ask([IMAGE, IMAGE[:2]]) if form.many and form.files else Ask([IMAGE]), 200),
        (locked, Ask([IMAGE]), 401),
    ):
        key = {} if at is server else {"X-API-Key": "old-key-1"}
        before = total(at.url, "requests_total", headers=key, status=f"{status}")
        assert form.send(at, ask).status == status
        after = total(at.url, "requests_total", headers=key, status=f"{status}")
        # The question itself is one of 200.
        assert after - before == 1 + (status == 200)


@pytest.mark.parametrize("charset", ["utf-7", "unicode_escape", "idna", "punycode", "rot13", "x"])
def test_a_multipart_form_in_a_strange_charset(server: Server, charset: str) -> None:
    for name in (b"+2AA-", rb"\ud800", b"xn--\xff", b"a..b", "ä".encode()):
        body = b'--b\r\ncontent-disposition: form-data; name="' + name + b'"\r\n\r\nx\r\n--b--\r\n'
        headers = {"content-type": f"multipart/form-data; boundary=b; charset={charset}"}
        answer = server.client.post("/predict", content=body, headers=headers)
        assert answer.status_code in {400, 422}, answer.text
        assert_problem(answer, answer.status_code)


def test_what_is_not_there(server: Server) -> None:
    for path in ("/nowhere", "/models/unknown/predict", "/v2/models/unknown", "/v1/models/unknown"):
        method = "POST" if path.endswith("predict") else "GET"
        assert_problem(server.client.request(method, path), 404)
    assert_problem(server.client.get("/models/digits/versions/7"), 404, "there is 1, 2")


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("POST", "/predct", 404, "no route 'predct'; did you mean 'predict'? http://"),
        ("POST", "/model/digits/predict", 404, "did you mean 'models/{name}/predict'?"),
        ("GET", "/readz", 404, "did you mean 'readyz'?"),
        ("GET", f"/{'x' * 9000}", 404, f"no route '{'x' * 64}'; http://"),
        ("POST", "/models", 405, "this route does not support POST; send GET, HEAD"),
        ("GET", "/predict", 405, "send POST (as in `curl -F file=@image.png http://"),
        ("GET", "/v2/models/digits/infer", 405, "send POST"),
    ],
)
def test_a_slip_is_told_what_is_near(
    server: Server, method: str, path: str, status: int, detail: str
) -> None:
    assert_problem(server.client.request(method, path), status, detail)


def test_allow_names_the_methods_of_a_route(server: Server) -> None:
    """RFC 9110, section 15.5.6; HEAD is answered wherever GET is."""
    paths = server.client.get("/openapi.json").json()["paths"]
    assert len(paths) > 30
    for path, operations in paths.items():
        methods = {method.upper() for method in operations}
        methods |= {"HEAD"} if "GET" in methods else set()
        response = server.client.request("PATCH", re.sub(r"{\w+}", "1", path))
        assert response.status_code == 405, path
        assert set(response.headers["allow"].split(", ")) == methods, path
