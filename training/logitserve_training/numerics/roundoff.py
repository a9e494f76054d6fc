"""2/10000 computed two ways, after Andrew Ng's lecture on numerical round-off."""

from fractions import Fraction
from typing import Any

import numpy as np

Numbers = dict[str, Any]
"""What the page shows of a topic: finite JSON, but for `inf` and `nan`."""

_EXACT = Fraction(2, 10000)


def measure() -> Numbers:
    """Divide once, or add to 1 and subtract from 1 first: the same number on paper."""
    direct = 2.0 / 10000
    roundabout = 1 + (1 / 10000) - (1 - 1 / 10000)
    one, part = np.float32(1), np.float32(1) / np.float32(10000)
    direct32 = np.float32(2) / np.float32(10000)
    roundabout32 = (one + part) - (one - part)
    return {
        "direct": direct,
        "roundabout": roundabout,
        "direct32": float(direct32),
        "roundabout32": float(roundabout32),
        "errors": {
            "direct": _relative_error(direct),
            "roundabout": _relative_error(roundabout),
            "direct32": _relative_error(float(direct32)),
            "roundabout32": _relative_error(float(roundabout32)),
        },
    }


def _relative_error(value: float) -> float:
    return float(abs(Fraction(value) - _EXACT) / _EXACT)
