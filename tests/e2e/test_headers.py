"""What browsers are told: whose pages may ask, and what an answer may do."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from tests.e2e.browser import SECONDS, launched
from tests.e2e.conftest import Weights
from tests.e2e.process import Server, clean_environment, run, running
from tests.e2e.test_bad_requests import assert_problem
from tests.tiny_models import png, random_picture

ROOT = Path(__file__).parents[2]
PNG = {"content-type": "image/png"}
GOOD = png(random_picture(0))
FRIEND, STRANGER = "https://friend.example", "https://stranger.example"
KEY = "cors-key"


@pytest.fixture(scope="module")
def shared(models: tuple[Path, Weights]) -> Iterator[Server]:
    """A server with keys that pages of two origins may ask."""
    environment = clean_environment(LOGITSERVE_API_KEY=KEY)
    origins = f"{FRIEND} http://localhost:3000"
    options = ("--models", str(models[0]), "--cors-origins", origins)
    with running(*options, environment=environment) as started:
        yield started


def preflight(server: Server, origin: str, path: str = "/predict") -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key,content-type,x-request-timeout-ms",
    }
    return httpx.options(server.url + path, headers=headers, timeout=SECONDS)


def test_a_named_origin_may_ask(shared: Server) -> None:
    for origin in (FRIEND, "http://localhost:3000"):
        for path in ("/predict", "/models/digits/predict", "/v2/models/digits/infer"):
            answer = preflight(shared, origin, path)
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == origin
            assert "access-control-allow-credentials" not in answer.headers
    for path in ("/predict", "/models/digits/predict"):
        for headers, status in (({"X-API-Key": KEY}, 200), ({}, 401)):
            answer = httpx.post(
                shared.url + path,
                content=GOOD,
                headers={**PNG, "Origin": FRIEND, **headers},
                timeout=SECONDS,
            )
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == FRIEND
            assert "X-Request-ID" in answer.headers["access-control-expose-headers"]
            assert "origin" in answer.headers["vary"].lower()


@pytest.mark.parametrize("origin", [STRANGER, f"{FRIEND}.evil.example", "null", FRIEND + ":8443"])
def test_another_origin_may_not(shared: Server, origin: str) -> None:
    assert preflight(shared, origin).status_code == 400
    answer = httpx.post(
        f"{shared.url}/predict",
        content=GOOD,
        headers={**PNG, "Origin": origin, "X-API-Key": KEY},
        timeout=SECONDS,
    )
    assert "access-control-allow-origin" not in answer.headers


def test_without_the_setting_no_origin_may(server: Server) -> None:
    for origin in (FRIEND, server.url):
        answer = preflight(server, origin)
        assert answer.status_code == 405
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "origins", ["friend.example", "https://friend.example/", "https://*.example", "ftp://x", "null"]
)
def test_what_is_no_origin(models: tuple[Path, Weights], origins: str) -> None:
    from logitserve_service.config.settings import Settings
    from logitserve_service.errors import SettingsError

    with pytest.raises(SettingsError, match="is no origin"):
        Settings.read({"models": str(models[0]), "cors_origins": origins})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/web/page.js"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/static-offline-docs/swagger-ui.css"),
        ("GET", "/livez"),
        ("GET", "/models"),
        ("GET", "/metrics"),
        ("GET", "/nowhere"),
        ("DELETE", "/predict"),
        ("POST", "/predict"),
        ("POST", "/models/digits/predict"),
        ("POST", "/models/digits/preview"),
    ],
)
def test_every_answer_is_what_it_says_it_is(client: httpx.Client, method: str, path: str) -> None:
    for content in (GOOD, b"no picture"):
        answer = client.request(
            method, path, content=content if method == "POST" else None, headers=PNG
        )
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers


def test_pages_may_do_nothing_that_they_need_not() -> None:
    """The page, the documentation and the report, each under its own policy."""
    with running("--models", str(ROOT / "models")) as server:
        for path in ("/", "/docs", "/models/digits/report"):
            headers = httpx.get(server.url + path, timeout=SECONDS).headers
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
            page.goto(f"{server.url}/docs")
            operation = page.locator("#operations-predict-predict_predict_post")
            expect(operation).to_be_visible()
            operation.locator("button").first.click()
            expect(
                operation.get_by_text("one picture").or_(operation.locator("pre"))
            ).not_to_have_count(0)
            page.goto(f"{server.url}/models/digits/report")
            expect(page.locator("svg").first).to_be_visible()
            assert complaints == []


def test_the_documentation_names_the_keys_where_they_are_asked(
    shared: Server, server: Server
) -> None:
    document = httpx.get(f"{shared.url}/openapi.json", timeout=SECONDS).json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey"}
    predict = document["paths"]["/predict"]["post"]
    assert predict["security"] == [{"bearer": []}, {"apiKey": []}]
    assert "401" in predict["responses"]
    assert "security" not in document["paths"]["/livez"]["get"]
    document = httpx.get(f"{server.url}/openapi.json", timeout=SECONDS).json()
    assert "securitySchemes" not in document.get("components", {})


def test_a_bad_origin_ends_the_start_in_one_line(models: tuple[Path, Weights]) -> None:
    status, printed = run("serve", "--models", str(models[0]), "--cors-origins", "here")
    assert status == 1
    assert len(printed.strip().splitlines()) == 1
    assert "'here' is no origin" in printed
    assert "--cors-origins" in printed


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


@pytest.mark.parametrize("charset", ["utf-7", "unicode_escape", "idna", "punycode", "rot13", "x"])
def test_a_form_in_a_strange_charset(client: httpx.Client, charset: str) -> None:
    for name in (b"+2AA-", rb"\ud800", b"xn--\xff", b"a..b", "ä".encode()):
        body = b'--b\r\ncontent-disposition: form-data; name="' + name + b'"\r\n\r\nx\r\n--b--\r\n'
        headers = {"content-type": f"multipart/form-data; boundary=b; charset={charset}"}
        answer = client.post("/predict", content=body, headers=headers)
        assert answer.status_code in {400, 422}, answer.text
        assert_problem(answer, answer.status_code)


def test_what_is_quoted_is_cut(client: httpx.Client) -> None:
    for path in ("/v2/models/digits/infer", "/v1/models/digits:predict"):
        for document in (
            {"inputs": [{"name": "x" * 100_000, "shape": [1], "datatype": "BYTES", "data": ["a"]}]},
            {"instances": [[1]], "signature_name": "x" * 100_000},
        ):
            answer = client.post(path, json=document)
            assert answer.status_code == 422
            assert len(answer.content) < 3000
