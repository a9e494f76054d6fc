"""The files of the page, without a browser: headers, caching, and that wheels have them."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx

from logitserve.inference.picture_warnings import PictureWarning
from logitserve_service.http.routes.page import HEADERS

ROOT = Path(__file__).parents[2]


def test_headers_and_caching(client: httpx.Client) -> None:
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
    for token in PictureWarning:
        assert re.search(rf"^  '?{token}'?: '", script, re.MULTILINE), token


def test_a_wheel_has_the_page(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", str(tmp_path)], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "service/logitserve_service/http/web").iterdir()
    }
    assert files <= set(zipfile.ZipFile(wheel).namelist())
