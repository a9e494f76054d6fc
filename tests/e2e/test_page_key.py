"""The page, where the service asks for a key."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.process import Server
from tests.e2e.profiles import NEW_KEY
from tests.tiny_models import png, random_picture

SIZES = [(1280, 900), (390, 844)]


@pytest.fixture(params=SIZES)
def page(browser: Browser, locked: Server, request: pytest.FixtureRequest) -> Iterator[Page]:
    width, height = request.param
    opened = browser.new_page(viewport={"width": width, "height": height})
    opened.goto(locked.url)
    yield opened
    opened.close()


def give(page: Page, key: str) -> None:
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Use this key").click()


def test_it_asks_for_a_key_and_keeps_it_for_the_tab(page: Page, locked: Server) -> None:
    field = page.get_by_label("Key", exact=True)
    expect(page.locator("#error")).to_have_text("This service needs a key.")
    expect(field).to_be_visible()
    expect(field).to_be_focused()
    expect(field).to_have_attribute("type", "password")
    give(page, "wrong")
    expect(page.locator("#error")).to_have_text("This key is not valid.")
    expect(field).to_have_value("")
    give(page, NEW_KEY)
    expect(field).to_be_hidden()
    expect(page.locator("#trouble")).to_be_hidden()
    expect(page.locator("#model option")).not_to_have_count(0)
    picture = {"name": "picture.png", "mimeType": "image/png", "buffer": png(random_picture(0))}
    page.locator("#file").set_input_files(picture)  # type: ignore[arg-type]  # as a dict
    expect(page.locator("#latency")).to_contain_text("latency")
    page.reload()
    expect(page.locator("#description")).not_to_be_empty()
    expect(field).to_be_hidden()
    other = page.context.browser.new_page()  # type: ignore[union-attr]  # it has one
    other.goto(locked.url)
    expect(other.get_by_label("Key", exact=True)).to_be_visible()
    other.close()


def test_the_field_fits_the_window(page: Page) -> None:
    expect(page.get_by_label("Key", exact=True)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for locator in (page.locator("#key"), page.get_by_role("button", name="Use this key")):
        box = locator.bounding_box()
        assert box is not None
        assert box["height"] >= 44
