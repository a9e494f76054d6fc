"""Pictures that are odd, and pictures that are broken: seeded, so that each can be made again."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from tests.fuzz.make_corpus import images
from tests.png_files import PIXELS, chunk, file, header
from tests.tiny_models import encode, png

Samples = npt.NDArray[np.uint8]

SIDES = (1, 2, 7, 28, 64, 65, 300)
LONG = (1, 3, 400, 20_000)


def _noise(rng: np.random.Generator, *channels: int) -> Samples:
    """Smooth in places and noisy in others, of any size."""
    height, width = rng.choice(SIDES, 2)
    base = rng.integers(0, 256, (1, 1, *channels), np.uint8)
    grain = rng.integers(0, rng.integers(1, 256), (height, width, *channels), np.uint8)
    noise: Samples = base + grain  # wraps around
    return noise


def _long(rng: np.random.Generator) -> Samples:
    height, width = rng.choice(LONG, 2, replace=False).tolist()
    return rng.integers(0, 256, (min(height, 2_000), width), np.uint8)


def _turned(rng: np.random.Generator, format_name: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(0, 10))
    return encode(Image.fromarray(_noise(rng, 3)), format_name, exif=exif)


def _tiff(samples: npt.NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)
    return buffer.getvalue()


def _tiles(rng: np.random.Generator) -> bytes:
    side = int(rng.choice([16, 32, 1024]))
    order = str(rng.choice(["<", ">"]))
    return _tiff(
        _noise(rng, 3), tile=(side, 16), compression="zlib", byteorder=order, photometric="rgb"
    )


def _planes(rng: np.random.Generator) -> bytes:
    planes = np.moveaxis(_noise(rng, 3), 2, 0).copy()
    return _tiff(planes, planarconfig="separate", photometric="rgb")


def _animation(rng: np.random.Generator, format_name: str) -> bytes:
    first = Image.fromarray(_noise(rng))
    return encode(first, format_name, save_all=True, append_images=[first.rotate(90)] * 3)


def _announcing(rng: np.random.Generator) -> bytes:
    """A header of any size, before the pixels of another."""
    return file(head=header(*map(int, rng.choice([0, 1, 5_000, 30_000, 2**31 - 1], 2))))


def _bomb(rng: np.random.Generator) -> bytes:
    text = zlib.compress(bytes(int(rng.integers(1, 8)) * 1_000_000))
    name = [b"zTXt", b"iCCP"][int(rng.integers(2))]
    return file(chunk(name, b"key\0\0" + text), PIXELS)


def _many_chunks(rng: np.random.Generator) -> bytes:
    return file(*[chunk(b"abCd")] * int(rng.integers(1, 70_000)), PIXELS)


def _polyglot(rng: np.random.Generator) -> bytes:
    """A picture, and another file behind it."""
    whole = encode(Image.fromarray(_noise(rng, 3)), str(rng.choice(["PNG", "JPEG", "GIF", "BMP"])))
    return whole + b"PK\x03\x04<html><script>%PDF-1.4" * 100


def _claiming_jpeg(rng: np.random.Generator) -> bytes:
    data = bytearray(encode(Image.fromarray(_noise(rng)), "JPEG"))
    height, width = rng.choice([0, 1, 900, 65_000], 2).tolist()
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    return bytes(data)


ODD: tuple[Callable[[np.random.Generator], bytes], ...] = (
    lambda rng: png(_noise(rng)),
    lambda rng: png(_noise(rng, 3)),
    lambda rng: png(_noise(rng, 4)),
    lambda rng: png(_long(rng)),
    lambda rng: encode(Image.fromarray(_noise(rng, 2)), "PNG"),
    lambda rng: encode(Image.fromarray(_noise(rng, 4)).quantize(int(rng.integers(2, 256))), "PNG"),
    lambda rng: encode(Image.fromarray(_noise(rng)).convert("1"), "PNG"),
    lambda rng: encode(Image.fromarray(_noise(rng).astype(np.uint16) << 7), "PNG"),
    lambda rng: encode(Image.fromarray(_noise(rng, 3)), "JPEG", progressive=True),
    lambda rng: encode(Image.fromarray(_noise(rng, 3)).convert("CMYK"), "JPEG"),
    lambda rng: encode(Image.fromarray(_noise(rng, 3)), "JPEG")[: -int(rng.integers(1, 40))],
    lambda rng: encode(Image.fromarray(_long(rng)), "JPEG"),
    lambda rng: encode(Image.fromarray(_noise(rng, 4)), "WEBP", lossless=True),
    lambda rng: encode(Image.fromarray(_noise(rng, 4)), "AVIF", speed=10),
    lambda rng: encode(Image.fromarray(_noise(rng, 4)), "BMP"),
    lambda rng: encode(Image.fromarray(_noise(rng)).convert("1"), "TIFF", compression="group4"),
    lambda rng: _tiff(np.stack([_noise(rng)] * 3), photometric="minisblack"),
    lambda rng: _tiff(_noise(rng).astype(np.float32), photometric="minisblack"),
    lambda rng: _tiff(_noise(rng).astype(np.uint16) << 8, photometric="miniswhite"),
    _planes,
    _tiles,
    *[lambda rng, name=name: _turned(rng, name) for name in ("PNG", "JPEG", "WEBP", "TIFF")],
    *[lambda rng, name=name: _animation(rng, name) for name in ("PNG", "GIF", "WEBP", "TIFF")],
    _announcing,
    _claiming_jpeg,
    _bomb,
    _many_chunks,
    _polyglot,
    lambda rng: rng.bytes(int(rng.integers(0, 5_000))),
)

SEEDS = tuple(content for _, content in images())


def odd(number: int) -> bytes:
    """The odd picture of that number."""
    return ODD[number % len(ODD)](np.random.default_rng([1, number]))


def mutated(number: int) -> bytes:
    """The mutated picture of that number: one to eight changes to a small picture."""
    rng = np.random.default_rng([2, number])
    data = bytearray(SEEDS[number % len(SEEDS)])
    for _ in range(int(rng.integers(1, 9))):
        MUTATIONS[int(rng.integers(len(MUTATIONS)))](rng, data)
    return bytes(data)


def _at(rng: np.random.Generator, data: bytearray) -> int:
    return int(rng.integers(0, max(1, len(data))))


def _flip(rng: np.random.Generator, data: bytearray) -> None:
    if data:
        data[_at(rng, data)] ^= 1 << int(rng.integers(8))


def _overwrite(rng: np.random.Generator, data: bytearray) -> None:
    at = _at(rng, data)
    data[at : at + 4] = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", rng.bytes(4)][
        int(rng.integers(4))
    ]


def _cut(rng: np.random.Generator, data: bytearray) -> None:
    at = _at(rng, data)
    del data[at : at + int(rng.integers(1, 60))]


def _truncate(rng: np.random.Generator, data: bytearray) -> None:
    del data[max(8, _at(rng, data)) :]


def _repeat(rng: np.random.Generator, data: bytearray) -> None:
    at = _at(rng, data)
    data[at:at] = data[at : at + int(rng.integers(1, 60))] * int(rng.integers(1, 5))


def _splice(rng: np.random.Generator, data: bytearray) -> None:
    other = SEEDS[int(rng.integers(len(SEEDS)))]
    at = _at(rng, data)
    data[at:] = other[at:]


MUTATIONS = (_flip, _flip, _overwrite, _overwrite, _cut, _truncate, _repeat, _splice)
