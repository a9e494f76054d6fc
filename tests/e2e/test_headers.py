"""What browsers are told: whose pages may ask, and what an answer may do."""

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from tests.e2e.browser import launched
from tests.e2e.conftest import Weights
from tests.e2e.process import Server, refused
from tests.e2e.profiles import FRIEND, OLD_KEY, ROOT
from tests.forms import HTTP_FORMS, Ask
from tests.tiny_models import random_picture


@pytest.mark.parametrize(
    "origin",
    ["https://stranger.example", f"{FRIEND}.evil.example", "null", FRIEND + ":8443"],
)
def test_another_origin_may_not(locked: Server, origin: str) -> None:
    fields = [("Origin", origin), ("X-API-Key", OLD_KEY)]
    for form in HTTP_FORMS:
        reply = form.send(locked, Ask([random_picture(0)], fields=fields))
        assert reply.status == 200
        assert "access-control-allow-origin" not in reply.headers


def test_a_preflight_needs_no_key(locked: Server) -> None:
    for origin in (FRIEND, "http://localhost:3000"):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        response = locked.client.options("/predict", headers=headers)
        assert response.is_success
        assert response.headers["access-control-allow-origin"] == origin


def test_a_page_of_a_named_origin_can_read_that_its_key_is_missing(locked: Server) -> None:
    for form in HTTP_FORMS:
        reply = form.send(locked, Ask([random_picture(0)], fields=[("Origin", FRIEND)]))
        assert reply.status == 401
        assert reply.headers["access-control-allow-origin"] == FRIEND


def test_without_the_setting_no_origin_may(server: Server) -> None:
    for origin in (FRIEND, server.url):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        response = server.client.options("/predict", headers=headers)
        assert response.status_code == 405
        assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "origins", ["friend.example", "https://friend.example/", "https://*.example", "ftp://x", "null"]
)
def test_what_is_no_origin(origins: str) -> None:
    printed = refused("--cors-origins", origins)
    assert f"{origins!r} is not an origin" in printed
    assert "--cors-origins" in printed


def test_pages_may_do_nothing_that_they_need_not(shipped: Server) -> None:
    """The page, the documentation and the report, each under its own policy."""
    for path in ("/", "/docs", "/models/digits/report"):
        headers = shipped.client.get(path, headers={"accept": "text/html"}).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'self'" if path == "/" else "default-src 'none'")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-eval" not in policy
        assert ("unsafe-inline" in policy) is path.endswith("report")  # styles of its charts
        assert headers["referrer-policy"] == "no-referrer"
        assert "camera=()" in headers["permissions-policy"]
    with launched() as browser:
        complaints: list[str] = []
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{shipped.url}/docs")
        operation = page.locator("#operations-predict-predict")
        expect(operation).to_be_visible()
        operation.locator("button").first.click()
        expect(
            operation.get_by_text("one picture").or_(operation.locator("pre"))
        ).not_to_have_count(0)
        page.goto(f"{shipped.url}/models/digits/report")
        expect(page.locator("svg").first).to_be_visible()
        assert complaints == []


def test_the_documentation_names_the_keys_where_they_are_asked(
    locked: Server, server: Server
) -> None:
    document = locked.client.get("/openapi.json").json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey"}
    predict = document["paths"]["/predict"]["post"]
    assert predict["security"] == [{"bearer": []}, {"apiKey": []}]
    assert "401" in predict["responses"]
    assert "security" not in document["paths"]["/livez"]["get"]
    document = server.client.get("/openapi.json").json()
    assert "securitySchemes" not in document.get("components", {})


PATHS = [
    "/models/..%2f..%2fetc%2fpasswd/report",
    "/models/%2e%2e/report",
    "/models/digits/versions/..%2f..%2f1/report",
    "/models/digits%00/report",
    "/models/digits/versions/1%00/report",
    "/models/digits/report/../../../../etc/passwd",
    "/models/%ff%fe/report",
    "/web/..%2fapp.py",
    "/web/%2e%2e/app.py",
    "/web//etc/passwd",
    "/web/page.js%00.html",
    "/static-offline-docs/..%2f..%2fcore.py",
    "/static-offline-docs/%2e%2e/core.py",
    "/static-offline-docs/%00",
    "/static-offline-docs//etc/passwd",
    "/static-offline-docs",
    "/static-offline-docs/",
    "/v2/models/..%2fx/versions/%00",
    "/v1/models/%2e%2e%2f:predict",
    "/v1/models/digits/versions/%00/metadata",
    "/models/" + "a" * 5000,
    "/models?name=%00%ff",
    "//",
    "/\\..\\..\\etc",
]


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out_of_the_service_nor_shows_where_it_lies(
    client: httpx.Client, server: Server, models: tuple[Path, Weights], path: str
) -> None:
    url = httpx.URL(server.url).copy_with(raw_path=path.encode())
    for method in ("GET", "POST"):
        answer = client.request(method, url, headers={"host": "evil.example"})
        assert answer.status_code in {200, 307, 400, 404, 405, 415, 422}, answer.text
        if answer.status_code == 200:
            assert path.startswith("/models?")
        for secret in (str(ROOT), str(models[0]), "site-packages", "Traceback", "root:", "import "):
            assert secret not in answer.text
        assert len(answer.content) < 20_000
