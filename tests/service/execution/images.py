"""Encoded images for the queue: small ones, large ones, and broken ones of both kinds."""

import numpy as np

from logitserve_service.execution.preprocessing import IN_PLACE_PIXELS
from tests.png_files import chunk
from tests.tiny_models import png

SMALL = png(np.zeros((28, 28), np.uint8))
BROKEN = SMALL[:33] + chunk(b"IDAT", b"no pixels") + SMALL[-12:]
"""Its checksums are right, but its pixels cannot be unpacked."""

LARGE_SIDE = 2 * int(IN_PLACE_PIXELS**0.5)
LARGE = png(np.zeros((LARGE_SIDE, LARGE_SIDE), np.uint8))
"""Many pixels in a short file."""
BROKEN_LARGE = LARGE[:-20]
