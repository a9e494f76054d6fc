"""What the page offers beside the answer: the request as code, JSON, what came before; and axe."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from logitserve_training.drawings import SHEET, draw
from tests.e2e.browser import Visit, assert_accessible, on_paper
from tests.e2e.process import Server, running
from tests.tiny_models import encode

ROOT = Path(__file__).parents[2]
NAME = 'a "five"; it\'s, so.png'


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    made = browser.new_page(permissions=["clipboard-read", "clipboard-write"])
    yield made
    made.close()


@pytest.fixture
def visit(page: Page, shipped: Server) -> Iterator[Visit]:
    found = Visit(page, shipped.url)
    yield found
    assert found.complaints == []


def code(visit: Visit, language: str) -> str:
    visit.page.locator("#language").select_option(language)
    return visit.page.locator("#snippet").inner_text()


@pytest.fixture
def given(visit: Visit) -> Visit:
    """A page that has answered about a file with a name that shells and curl stumble over."""
    visit.give("drop", on_paper(5), NAME)
    visit.expect_label("5")
    visit.page.locator("#code summary").click()
    return visit


def test_curl_as_shown_asks_the_same(given: Visit, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(on_paper(5))
    command = shlex.split(code(given, "curl"))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    given.page.locator("#answer summary").click()
    shown = json.loads(given.page.locator("#json").inner_text())
    assert json.loads(done.stdout) == shown
    assert shown["predictions"][0]["label"] == "5"


def test_python_as_shown_asks_the_same(given: Visit, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(on_paper(5))
    script = [sys.executable, "-c", code(given, "Python")]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("5 0.9")


def test_javascript_as_shown_asks_the_same(given: Visit) -> None:
    script = code(given, "JavaScript")
    label = given.page.evaluate(
        f"async (bytes) => {{ const file = new File([new Uint8Array(bytes)], 'x');"
        f"{script}; return predictions[0].label; }}",
        list(on_paper(5)),
    )
    assert label == "5"


def test_the_key_is_in_the_code_by_name_only(page: Page, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key-that-is-long-enough-for-us")
    with running("--models", str(ROOT / "models"), "--api-key-file", str(keys)) as locked:
        page.goto(locked.url)
        page.locator("#key").fill(keys.read_text())
        page.locator("#key").press("Enter")
        expect(page.locator("#description")).not_to_be_empty()
        page.locator("#code summary").click()
        text = page.locator("#snippet").inner_text()
    assert '-H "X-API-Key: $LOGITSERVE_API_KEY"' in text
    assert keys.read_text() not in text


def test_code_is_copied_or_at_least_selected(given: Visit) -> None:
    page, text = given.page, code(given, "curl")
    page.locator("#copy").click()
    expect(page.locator("#copied")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == text
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error()); }")
    page.locator("#copy").click()
    expect(page.locator("#copied")).to_contain_text("Selected")
    assert page.evaluate("getSelection().toString()") == text


def test_the_picture_is_saved_as_it_was_sent(given: Visit) -> None:
    with given.page.expect_download() as download:
        given.page.locator("#save").click()
    assert download.value.path().read_bytes() == on_paper(5)


def test_answers_of_before_stay_to_be_compared_with(visit: Visit) -> None:
    page = visit.page
    for digit in range(8):
        visit.give("drop", encode(draw(digit, seed=1, paper=SHEET), "PNG"))
        visit.expect_label(str(digit))
        expect(page.locator("#seen")).to_be_visible()
    page.locator("#model").select_option("zero")
    visit.expect_label("other")
    before = page.locator("#history li")
    expect(before).to_have_count(6)  # the oldest have gone
    assert [text[0] for text in before.all_inner_texts()] == list("765432")
    expect(before.first).to_have_text(re.compile(r"^7 (> )?99\.\d%, digits$"))
    sizes = before.locator("img").evaluate_all("all => all.map((image) => image.naturalWidth)")
    assert sizes == [28] * 6


def test_what_is_unlike_the_training_is_said(visit: Visit) -> None:
    expect(visit.page.locator("#unknown")).to_be_hidden()
    visit.give("drop", (ROOT / "docs/seven.png").read_bytes())
    visit.expect_label("7")
    expect(visit.page.locator("#unknown")).to_be_hidden()
    visit.give("drop", encode(Image.new("L", (50, 50), 255), "PNG"))
    expect(visit.page.locator("#unknown")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(given: Visit, scheme: str) -> None:
    given.page.locator("#answer summary").click()
    given.page.locator("#why").click()
    expect(given.page.locator("#map")).to_be_visible()
    assert_accessible(given.page, scheme)
