"""Microseconds that decoding one small picture takes, by codec: `python -m benchmarks.codecs`."""

import io
import timeit
from collections.abc import Callable

import numpy as np
from PIL import Image

from logitserve.inference import images

SIZES = (28, 64, 256)
ROUNDS, CALLS = 50, 40


def microseconds(decode: Callable[[bytes], object], data: bytes) -> float:
    """The fastest round: what is above it, other work of the machine added."""
    return min(timeit.repeat(lambda: decode(data), number=CALLS, repeat=ROUNDS)) / CALLS * 1e6


def main() -> None:
    codecs: dict[str, Callable[[bytes], object]] = {
        "logitserve.inference.images": images.decode,
        "Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data))),
    }
    rng = np.random.default_rng(0)
    print("| gray PNG | " + " | ".join(codecs) + " |")
    print("|---|" + "---:|" * len(codecs))
    for side in SIZES:
        # Smooth, so that it compresses as pictures do.
        noise = rng.integers(0, 256, (side // 4, side // 4), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).resize((side, side)).save(buffer, "PNG")
        cells = [f"{microseconds(decode, buffer.getvalue()):.1f} µs" for decode in codecs.values()]
        print(f"| {side}×{side} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
