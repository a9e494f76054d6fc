"""Under an answer: whether it is right, or what the picture shows."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.browser import Visit, assert_accessible, on_paper
from tests.e2e.metrics import wait_until
from tests.e2e.process import Server, running
from tests.e2e.profiles import ROOT


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "store.db"


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Server]:
    with running("--models", str(ROOT / "models"), "--store", str(store)) as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    made = browser.new_page()
    yield made
    made.close()


@pytest.fixture
def visit(page: Page, server: Server) -> Visit:
    found = Visit(page, server.url)
    found.give("drop", on_paper(5))
    found.expect_label("5")
    return found


def told(store: Path) -> list[list[str]]:
    with closing(sqlite3.connect(store)) as opened:
        rows = opened.execute("SELECT labels FROM feedback WHERE source = 'page' ORDER BY at")
        return [json.loads(labels) for (labels,) in rows]


def test_right_and_wrong_by_mouse(visit: Visit, store: Path) -> None:
    before = len(told(store))
    visit.page.get_by_role("button", name="Correct").click()
    expect(visit.page.locator("#thanks")).to_have_text("Sent.")
    assert told(store)[before:] == [["5"]]
    visit.page.get_by_label("Wrong, the label is").select_option("3")
    visit.page.get_by_role("button", name="Send").click()
    wait_until(lambda: told(store)[before:] == [["3"]])
    assert visit.complaints == []


def test_wrong_by_keyboard(visit: Visit, store: Path) -> None:
    before = len(told(store))
    keyboard = visit.page.keyboard
    visit.page.get_by_role("button", name="Correct").focus()
    keyboard.press("Tab")
    keyboard.type("8")
    keyboard.press("Tab")
    keyboard.press("Enter")
    expect(visit.page.get_by_role("status").filter(has_text="Sent.")).to_be_visible()
    assert told(store)[before:] == [["8"]]


def test_nothing_is_sent_without_a_choice_and_it_goes_with_its_answer(
    visit: Visit, store: Path
) -> None:
    before = len(told(store))
    visit.page.get_by_role("button", name="Send").click()
    visit.page.locator("#clear").click()
    expect(visit.page.locator("#feedback")).to_be_hidden()
    assert len(told(store)) == before


def test_several_labels_may_hold(visit: Visit, store: Path) -> None:
    before = len(told(store))
    visit.page.locator("#model").select_option("scenes")
    expect(visit.page.locator("#truth")).to_have_attribute("multiple", "")
    expect(visit.page.locator("#feedback")).to_be_visible()
    labels = visit.page.locator("#truth option").all_inner_texts()
    visit.page.locator("#truth").select_option(labels[:2])
    visit.page.get_by_role("button", name="Send").click()
    wait_until(lambda: told(store)[before:] == [sorted(labels[:2])])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit: Visit, scheme: str) -> None:
    assert_accessible(visit.page, scheme)


def test_without_receipts_it_does_not_ask(page: Page, shipped: Server) -> None:
    found = Visit(page, shipped.url)
    found.give("drop", on_paper(5))
    found.expect_label("5")
    expect(page.locator("#feedback")).to_be_hidden()
