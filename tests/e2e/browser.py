"""A real browser on the page, and hands to use it with."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from logitserve_training.drawings import _STROKES, SHEET, draw
from tests.e2e.profiles import ROOT
from tests.tiny_models import encode

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SECONDS = 20
AXE = ROOT / ".venv/protocol-clients/node/node_modules/axe-core/axe.min.js"

Point = tuple[float, float]


def chromium() -> str:
    """The browser's program; never skipped over when it is missing."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert found, "chromium is missing: run `make programs`, or name one in CHROMIUM"
    return found


def on_paper(digit: int) -> bytes:
    """A picture file of a digit, dark on light."""
    return encode(draw(digit, seed=1, paper=SHEET), "PNG")


@contextmanager
def launched() -> Iterator[Browser]:
    expect.set_options(timeout=SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(QUIET))
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page, and what it did that it should not have done."""

    page: Page
    url: str
    hosts: set[str] = field(default_factory=set)
    """Whom the page asked for anything; '' stands for its own blob: and data: addresses."""
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(SECONDS * 1000)
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(self.url)
        expect(self.page.locator("#description")).not_to_be_empty()

    def draw(self, digit: int) -> None:
        """Draw with the mouse."""
        mouse = self.page.mouse
        for points in self._strokes(digit):
            mouse.move(*points[0])
            mouse.down()
            for point in points[1:]:
                mouse.move(*point)
            mouse.up()

    def draw_by_finger(self, digit: int) -> None:
        """Draw with touches as a touch screen reports them."""
        screen = self.page.context.new_cdp_session(self.page)

        def send(kind: str, *points: Point) -> None:
            touches = [{"x": x, "y": y} for x, y in points]
            screen.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

        for points in self._strokes(digit):
            send("touchStart", points[0])
            for point in points[1:]:
                send("touchMove", point)
            send("touchEnd")

    def _strokes(self, digit: int) -> list[list[Point]]:
        """Where the pen goes, in pixels of the window."""
        box = self.page.locator("#canvas").bounding_box()
        assert box is not None
        left, top, side = box["x"], box["y"], box["width"]
        return [
            [
                (left + side * (0.28 + 0.6 * x), top + side * (0.2 + 0.6 * y))
                for x, y in _evenly(stroke)
            ]
            for stroke in _STROKES[digit]
        ]

    def expect_label(self, label: str) -> None:
        """Wait until the answer is final and is this."""
        expect(self.page.locator("#result")).to_have_attribute("aria-busy", "false")
        expect(self.page.locator("#label")).to_have_text(label)

    def give(self, how: str, data: bytes, name: str = "picture.png") -> None:
        """Drop or paste a file: the events that the browser makes of those gestures."""
        self.page.evaluate(
            """([how, bytes, name]) => {
                const transfer = new DataTransfer();
                transfer.items.add(new File([new Uint8Array(bytes)], name));
                const options = { bubbles: true, cancelable: true };
                document.body.dispatchEvent(how === 'drop'
                    ? new DragEvent('drop', { ...options, dataTransfer: transfer })
                    : new ClipboardEvent('paste', { ...options, clipboardData: transfer }));
            }""",
            [how, list(data), name],
        )

    def contrasts(self) -> list[tuple[str, float]]:
        """Each visible piece of text, and its contrast by WCAG 2.2's definition."""
        found: list[tuple[str, float]] = self.page.evaluate(_CONTRASTS)
        assert found
        return found


def assert_accessible(page: Page, scheme: str) -> None:
    """axe finds nothing serious in the colors of this scheme."""
    if not AXE.is_file():
        pytest.skip("axe-core is missing: npm could not install it (make protocol-clients)")
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type] # one of its literals
    page.evaluate(AXE.read_text())  # as a script of the browser's, which the page's policy allows
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")
    assert found["passes"]
    bad = [
        (rule["id"], rule["impact"], [node["html"] for node in rule["nodes"]])
        for rule in found["violations"]
    ]
    assert bad == []


def _evenly(stroke: list[Point]) -> list[Point]:
    """Points along a stroke that are about a tenth of a digit apart, the first and last kept."""
    x, y = np.transpose(stroke)
    along = np.concatenate([[0], np.hypot(np.diff(x), np.diff(y)).cumsum()])
    wanted = np.linspace(0, along[-1], 2 + int(along[-1] / 0.1))
    return list(zip(np.interp(wanted, along, x), np.interp(wanted, along, y), strict=True))


_CONTRASTS = """() => {
    const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
    const luminance = (color) => numbers(color).slice(0, 3)
        .map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (element) => {
        const color = getComputedStyle(element).backgroundColor;
        return numbers(color)[3] === 0 ? ground(element.parentElement) : color;
    };
    const texts = [...document.querySelectorAll('body *')].filter((element) =>
        element.checkVisibility({ visibilityProperty: true }) && [...element.childNodes].some(
            (node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim()));
    return texts.filter((element) => element.tagName !== 'CANVAS').map((element) => {
        const [dark, light] = [getComputedStyle(element).color, ground(element)]
            .map(luminance).sort((a, b) => a - b);
        return [element.textContent.trim(), (light + 0.05) / (dark + 0.05)];
    });
}"""
