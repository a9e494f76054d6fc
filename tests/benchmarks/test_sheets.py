"""Digits on disturbed sheets are cut out, and nothing is known of such sheets without a digit."""

import numpy as np
import pytest

from benchmarks import sheets
from benchmarks.sheet_kinds import TUNED
from benchmarks.unseen_sheets import UNSEEN
from logitserve_training import drawings

COUNT = 12
DIGITS = np.stack([np.asarray(drawings.draw(n % 10, seed=n).convert("L")) for n in range(COUNT)])
CLASSES = np.arange(COUNT) % 10
MODELS = [sheets.load(model) for model in sheets.MODELS]
HARD = {
    "table",
    "half shadow",
    "window",
    "blinds",
    "envelope",
    "crumpled",
    "leaves",
    "flicker",
    "wood",
    "wiped board",
}
"""Bars or several edges of shadows, as wide and as dark as strokes: many digits are lost."""
SOMETIMES_KNOWN = {
    *("specks", "shadow", "half shadow", "window", "torn edge", "crumpled", "second thing"),
    *("shadow of a hand", "fibers", "JPEG blocks", "leaves", "second sheet", "wiped board"),
    "corner of a room",
}
"""Of which one looks like a digit now and then, more often to models that take most things for one:
only `digits` is held to a quarter of them."""


@pytest.mark.parametrize("kind", [*TUNED, *UNSEEN])
def test_sheets(kind: str) -> None:
    right, _, *known = sheets.measure(kind, DIGITS, CLASSES, MODELS)
    assert right >= 0.8 or kind in HARD
    if kind in SOMETIMES_KNOWN:
        assert known[0] <= COUNT // 4
    else:
        assert max(known) == 0
