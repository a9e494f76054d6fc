"""The files of the page, without a browser: headers and caching."""

import re
from pathlib import Path

import httpx

from logitserve.inference.image_warnings import ImageWarning
from logitserve_service.http.page import HEADERS

ROOT = Path(__file__).parents[2]


def test_headers_and_caching(client: httpx.Client) -> None:
    assert client.get("/").json() == {"status": "alive"}  # as KServe's client asks
    client.headers["accept"] = "text/html,*/*;q=0.8"
    page = client.get("/")
    assets = re.findall(r'(?:src|href)="(web/[^"]+)"', page.text)
    assert {"web/page.js", "web/style.css", "web/icon.svg"} <= set(assets)
    assert not re.search(r"<style|\sstyle=|\son\w+=|https?://", page.text)
    for path in ("/", *(f"/{asset}" for asset in assets)):
        first = client.get(path)
        assert first.status_code == 200
        for name, value in HEADERS.items():
            assert first.headers[name] == value
        again = client.get(path, headers={"if-none-match": f'"x", W/{first.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        assert client.get(path, headers={"if-none-match": '"x"'}).status_code == 200
        assert client.head(path).headers["content-type"] == first.headers["content-type"]
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_the_page_has_a_sentence_for_every_warning() -> None:
    script = (ROOT / "service/logitserve_service/http/web/server.js").read_text()
    for token in ImageWarning:
        assert re.search(rf"^  '?{token}'?: '", script, re.MULTILINE), token
