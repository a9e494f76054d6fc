"""The page at `/`, used in a real browser as a person would use it."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Route, expect

from logitserve.inference.card import Fit, Head, InputSpec
from tests import tiny_models
from tests.e2e.browser import Visit, on_paper
from tests.e2e.process import Server, running
from tests.tiny_models import encode

ROOT = Path(__file__).parents[2]
SCENES = InputSpec(height=12, width=16, channels=3, fit=Fit.STRETCH)
DESKTOP = (1280, 900)
PHONE = (390, 844)

Opener = Callable[..., Visit]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real models, and one whose labels do not exclude each other."""
    folder = tmp_path_factory.mktemp("page")
    for name in ("digits", "zero"):
        shutil.copytree(ROOT / "models" / name, folder / name)
    tiny_models.publish(
        folder,
        name="scenes",
        head=Head.SIGMOID,
        labels=("car", "bus", "pedestrian"),
        spec=SCENES,
        seed=3,
        thresholds=(0.0, 0.5, 1.0),
    )
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with running("--models", str(models)) as started:
        yield started


@pytest.fixture
def opened(browser: Browser, server: Server) -> Iterator[Opener]:
    """Opens the page; in the end nothing must have been asked of others, and nothing gone wrong."""
    visits: list[Visit] = []

    def opener(size: tuple[int, int] = DESKTOP, *, touch: bool = False) -> Visit:
        page = browser.new_page(
            viewport={"width": size[0], "height": size[1]}, has_touch=touch, is_mobile=touch
        )
        visits.append(Visit(page, server.url))
        return visits[-1]

    yield opener
    for visit in visits:
        assert visit.hosts - {""} == {httpx.URL(server.url).netloc.decode()}
        assert visit.complaints == []
        visit.page.close()


@pytest.fixture
def visit(opened: Opener) -> Visit:
    return opened()


def test_drawn_digits_are_recognized_and_cleared(visit: Visit) -> None:
    for digit in (3, 0, 7):
        visit.draw(digit)
        visit.expect_label(str(digit))
        won = visit.page.locator("#bars li[data-won]")
        expect(won.locator(".name")).to_have_text(str(digit))
        visit.page.locator("#clear").click()
        expect(visit.page.locator("#label")).to_have_text("–")
        expect(visit.page.locator("#seen")).to_be_hidden()


def test_a_finger_draws_and_does_not_scroll(opened: Opener) -> None:
    visit = opened(PHONE, touch=True)
    visit.draw_by_finger(7)
    visit.expect_label("7")
    assert visit.page.evaluate("scrollY") == 0


def test_the_answer_shows_bars_latency_and_what_the_network_sees(visit: Visit) -> None:
    expect(visit.page.locator("#bars li")).to_have_count(10)
    visit.draw(3)
    visit.expect_label("3")
    expect(visit.page.locator("#probability")).to_have_text(re.compile(r"^> 99.9%$|^\d+\.\d%$"))
    expect(visit.page.locator("#latency")).to_have_text(
        re.compile(r"^digits, version 1, latency [\d.]+ ms, [\d.]+ ms of it in the server\.$")
    )
    seen = visit.page.locator("#seen")
    expect(seen).to_be_visible()
    expect(seen).to_have_css("image-rendering", "pixelated")
    expect(seen).to_have_js_property("naturalWidth", 28)
    # A drawing has the colors that the network wants, so there is nothing to warn of.
    expect(visit.page.locator("#warnings li")).to_have_count(0)
    # Half a drawing may be the same digit with less certainty: the width is waited for.
    visit.page.wait_for_function(
        "parseFloat(document.querySelector('li[data-won] .fill')?.style.width) > 50"
    )


@pytest.mark.parametrize("how", ["drop", "paste", "upload"])
def test_a_given_file_is_recognized(visit: Visit, how: str) -> None:
    if how == "upload":
        file = {"name": "picture.png", "mimeType": "image/png", "buffer": on_paper(5)}
        visit.page.locator("#file").set_input_files(file)  # type: ignore[arg-type]
    else:
        visit.give(how, on_paper(5))
    visit.expect_label("5")
    expect(visit.page.locator("#source")).to_have_text("picture.png")
    expect(visit.page.locator("#warnings li")).to_have_text(re.compile("Dark ink"))
    visit.draw(7)  # a stroke on a given picture starts a drawing
    visit.expect_label("7")
    expect(visit.page.locator("#source")).not_to_have_text("picture.png")


def test_a_broken_file_shows_what_the_server_says_until_the_next_answer(visit: Visit) -> None:
    visit.draw(7)
    visit.expect_label("7")
    visit.give("drop", b"nonsense", "broken.png")
    error = visit.page.locator("#error")
    expect(error).to_have_text(re.compile("not a supported image.* send one of PNG, JPEG"))
    expect(error).to_be_visible()
    expect(visit.page.locator("#again")).to_be_hidden()
    expect(visit.page.locator("#label")).to_have_text("–")
    visit.give("drop", on_paper(4))
    visit.expect_label("4")
    expect(error).to_be_hidden()
    assert [text for text in visit.complaints if "422" not in text] == []
    visit.complaints.clear()


def test_something_dropped_that_is_no_file(visit: Visit) -> None:
    visit.page.evaluate(
        "document.body.dispatchEvent(new DragEvent('drop',"
        " { bubbles: true, dataTransfer: new DataTransfer() }))"
    )
    expect(visit.page.locator("#error")).to_have_text(re.compile("Not a picture file"))


def test_another_model_is_asked_about_the_same_picture(visit: Visit) -> None:
    model = visit.page.locator("#model")
    expect(model).to_have_value("digits")
    expect(model.locator("option")).to_have_text(["digits", "scenes", "zero"])
    visit.draw(0)
    visit.expect_label("0")
    model.select_option("zero")
    visit.expect_label("zero")
    expect(visit.page.locator("#card")).to_have_attribute("href", "models/zero")
    expect(visit.page.locator("#bars li .name")).to_have_text(["other", "zero"])


def test_a_model_of_many_labels_shows_its_thresholds(visit: Visit) -> None:
    visit.page.locator("#model").select_option("scenes")
    visit.draw(7)
    expect(visit.page.locator("#label")).to_have_text(re.compile("^car(, bus)?$"))
    marks = visit.page.locator("#bars .mark").evaluate_all("all => all.map((m) => m.style.left)")
    assert marks == ["0%", "50%", "100%"]
    expect(visit.page.locator("#bars li").nth(1)).to_contain_text("threshold 50.0%")
    # A list, as the answer to the first dots of the drawing has a second warning: they are blank.
    expect(visit.page.locator("#warnings li")).to_have_text([re.compile("distorted")])


def test_requests_do_not_overlap_and_an_old_answer_is_dropped(visit: Visit) -> None:
    held: list[Route] = []
    page = visit.page

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/predict", hold)
    with page.expect_request("**/digits/predict"):
        visit.draw(3)  # many changes: one request, which is held
    assert len(held) == 1
    with page.expect_request("**/zero/predict"):
        page.locator("#model").select_option("zero")
    old = {"argmax": 0, "label": "old", "probability": 1, "probabilities": {"old": 1}}
    held[0].fulfill(json={"model": "digits", "version": "1", "predictions": [old]})
    held[1].continue_()
    visit.expect_label("other")
    with page.expect_request("**/zero/predict"):
        visit.draw(0)
    assert len(held) == 3
    page.locator("#clear").click()
    held[2].continue_()
    expect(page.locator("#label")).to_have_text("–")
    page.unroute("**/predict")
    page.locator("#model").select_option("digits")
    visit.draw(7)
    visit.expect_label("7")


def test_a_server_that_is_gone_is_said_and_can_be_asked_again(visit: Visit) -> None:
    visit.page.route("**/predict", lambda route: route.abort("connectionrefused"))
    visit.give("drop", on_paper(5))
    expect(visit.page.locator("#error")).to_have_text(re.compile("The server does not answer"))
    visit.page.unroute("**/predict")
    visit.page.locator("#again").click()
    visit.expect_label("5")
    expect(visit.page.locator("#error")).to_be_hidden()
    assert [text for text in visit.complaints if "ERR_CONNECTION_REFUSED" not in text] == []
    visit.complaints.clear()


def test_drawing_and_everything_else_by_keyboard(visit: Visit) -> None:
    page = visit.page
    order = []
    for _ in range(6):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.innerText"))
    assert order == ["card", "API", "model", "canvas", "clear", "file"]
    page.locator("#canvas").focus()
    # A 7 from the middle: up, left, then lower the pen, right, and down to the left.
    keys = ["ArrowUp"] * 5 + ["ArrowLeft"] * 4 + [" "] + ["ArrowRight"] * 8
    for key in keys + ["ArrowDown", "ArrowDown", "ArrowLeft"] * 4 + [" "]:
        page.keyboard.press(key)
    visit.expect_label("7")
    page.keyboard.press("Delete")
    expect(page.locator("#label")).to_have_text("–")
    page.locator("#model").focus()
    page.keyboard.press("z")
    expect(page.locator("#bars li .name")).to_have_text(["other", "zero"])


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_it_fits_and_can_be_read_in_light_and_dark(opened: Opener, size: tuple[int, int]) -> None:
    visit = opened(size)
    visit.draw(7)
    visit.expect_label("7")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= size[0]
    grounds = set()
    for scheme in ("light", "dark"):
        visit.page.emulate_media(color_scheme=scheme)
        grounds.add(visit.page.evaluate("getComputedStyle(document.body).backgroundColor"))
        for text, contrast in visit.contrasts():
            assert contrast >= 4.5, text  # WCAG 2.2, 1.4.3
    assert len(grounds) == 2


def test_the_answer_is_near_the_drawing_on_a_phone(opened: Opener) -> None:
    box = opened(PHONE).page.locator("#result").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= PHONE[1]


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_why_shows_what_the_answer_comes_from(opened: Opener, size: tuple[int, int]) -> None:
    visit = opened(size)
    page = visit.page
    why = page.get_by_role("button", name="Why?")
    drawing = page.locator("#map")
    expect(why).to_be_disabled()
    visit.give("drop", on_paper(4))  # one question, where a drawing is several
    visit.expect_label("4")
    expect(why).to_be_enabled()
    why.focus()
    page.keyboard.press("Enter")
    expect(drawing).to_be_visible()
    expect(drawing).to_have_js_property("naturalWidth", 280)
    expect(drawing).to_have_attribute("alt", re.compile("evidence for 4 in blue.*in red"))
    legend = page.locator("#legend")
    expect(legend).to_have_attribute("aria-live", "polite")
    expect(legend).to_contain_text("Blue, with +: evidence for 4.")
    expect(legend).to_contain_text("Red, with −: evidence against it.")
    expect(why).to_be_focused()
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for text, contrast in visit.contrasts():
            assert contrast >= 4.5, text
    page.locator("#model").select_option("zero")  # another answer, and its map is not there yet
    visit.expect_label("other")
    expect(drawing).to_be_hidden()
    expect(legend).to_be_empty()
    expect(why).to_be_enabled()
    page.locator("#clear").click()
    expect(why).to_be_disabled()


def test_why_is_about_the_answer_that_is_shown(visit: Visit) -> None:
    page = visit.page
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    def let_go(label: str) -> None:
        """Wait for the next explanation that is asked for, and let the server make it."""
        for _ in range(1000):
            if held:
                break
            page.wait_for_timeout(20)
        route = held.pop()
        assert route.request.url.endswith(f"label={label}")
        with page.expect_response("**/explain?*"):
            route.continue_()

    page.route("**/explain?*", hold)
    for digit in (4, 5):
        visit.give("drop", on_paper(digit))
        visit.expect_label(str(digit))
        expect(page.locator("#why")).to_be_enabled()
        if digit == 4:
            page.locator("#why").click()
    let_go("4")  # which is asked about no more
    let_go("5")
    expect(page.locator("#legend")).to_contain_text("evidence for 5")
    page.locator("#why").click()
    page.locator("#clear").click()
    let_go("5")
    expect(page.locator("#map")).to_be_hidden()


def test_why_of_a_model_of_many_labels_and_of_a_busy_server(visit: Visit) -> None:
    page = visit.page
    page.locator("#model").select_option("scenes")
    visit.give("drop", on_paper(7))
    expect(page.locator("#why")).to_be_enabled()
    label = page.locator("#label").inner_text()
    detail = "4 explanations are queued already; try again later"
    page.route("**/explain?*", lambda route: route.fulfill(status=429, json={"detail": detail}))
    page.locator("#why").click()
    expect(page.locator("#error")).to_have_text(detail)
    expect(page.locator("#label")).to_have_text(label)
    page.unroute("**/explain?*")
    page.locator("#why").click()
    expect(page.locator("#legend")).to_contain_text(re.compile("evidence for (car|bus|pedestrian)"))
    expect(page.locator("#error")).to_be_hidden()
    assert [text for text in visit.complaints if "429" not in text] == []
    visit.complaints.clear()


def test_names_and_roles(visit: Visit) -> None:
    page = visit.page
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.title()
    for role in ("banner", "main"):
        expect(page.get_by_role(role)).to_have_count(1)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.get_by_role("combobox", name="Model")).to_have_id("model")
    expect(page.get_by_role("application", name="Drawing area")).to_have_id("canvas")
    expect(page.get_by_role("button", name="Clear")).to_have_id("clear")
    expect(page.get_by_label("Choose a picture")).to_have_id("file")
    expect(page.get_by_role("list", name="Probabilities")).to_have_id("bars")
    expect(page.get_by_role("status")).to_have_attribute("aria-live", "polite")
    ids = page.locator("[id]").evaluate_all("all => all.map((each) => each.id)")
    assert len(ids) == len(set(ids))
    assert page.locator("img:not([alt])").count() == 0


def test_a_blank_picture_says_that_its_answer_means_nothing(visit: Visit) -> None:
    visit.give("drop", encode(Image.fromarray(np.full((50, 50), 255, np.uint8)), "PNG"))
    expect(visit.page.locator("#warnings li")).to_have_text(re.compile("blank.*meaningless"))
