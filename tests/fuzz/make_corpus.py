"""Makes the seeds of the corpora: `python -m tests.fuzz.make_corpus`.

Small files that the project makes itself. What fuzzing found lies beside them, under its hash.
"""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from tests.png_files import PIXELS, chunk, file
from tests.tiny_models import encode, png

CORPUS = Path(__file__).parent / "corpus"
HEADER_LENGTH_BYTES = 2
"""What stands before a binary body: the length of its JSON, little-endian."""

Y, X = np.mgrid[0:13, 0:11]
GRAY = ((X * 17 + Y * 31) % 251).astype(np.uint8)
RGB = np.stack([GRAY, 255 - GRAY, X * 20], axis=-1).astype(np.uint8)
RGBA = np.dstack([RGB, Y * 20]).astype(np.uint8)
EXIF = Image.Exif()
EXIF[0x0112] = 6


def images() -> Iterator[tuple[str, bytes]]:
    """Every format, in its common and its odd forms."""
    gray, color, clear = (Image.fromarray(samples) for samples in (GRAY, RGB, RGBA))
    stroke = np.zeros((28, 28), np.uint8)
    stroke[5:23, 12:16] = 255
    sheet = np.full((90, 40), 230, np.uint8)
    sheet[20:70, 18:22] = 30
    yield "gray.png", png(GRAY)
    yield "rgba.png", png(RGBA)
    yield "stroke.png", png(stroke)
    yield "sheet.png", png(sheet)
    yield "palette.png", encode(clear.quantize(5), "PNG")
    yield "bits.png", encode(gray.convert("1"), "PNG")
    yield "wide.png", encode(Image.fromarray(GRAY.astype(np.uint16) << 8), "PNG")
    yield "animated.png", encode(gray, "PNG", save_all=True, append_images=[gray.rotate(90)])
    yield "turned.png", encode(gray, "PNG", exif=EXIF)
    yield "transparent.png", file(chunk(b"tRNS", b"\0\x14"), PIXELS)
    yield "turned.jpg", encode(color, "JPEG", quality=60, exif=EXIF)
    yield "progressive.jpg", encode(gray, "JPEG", quality=30, progressive=True)
    yield "cmyk.jpg", encode(color.convert("CMYK"), "JPEG", quality=30)
    yield "lossy.webp", encode(color, "WEBP", quality=30)
    yield "lossless.webp", encode(clear, "WEBP", lossless=True)
    yield (
        "animated.webp",
        encode(color, "WEBP", quality=30, save_all=True, append_images=[color.rotate(90)]),
    )
    yield "color.bmp", encode(color, "BMP")
    yield "palette.bmp", encode(gray.convert("1"), "BMP")
    yield "gray.gif", encode(gray.quantize(8), "GIF")
    yield (
        "animated.gif",
        encode(gray.quantize(8), "GIF", save_all=True, append_images=[gray.rotate(90)]),
    )
    yield "lzw.tiff", encode(color, "TIFF", compression="tiff_lzw")
    yield "group4.tiff", encode(gray.convert("1"), "TIFF", compression="group4")
    yield "packbits.tiff", encode(gray, "TIFF", compression="packbits")
    yield "tiles.tiff", tiff(RGB, tile=(16, 16), compression="zlib", byteorder=">")
    yield "large_tile.tiff", tiff(GRAY, tile=(1024, 512), compression="zlib")
    yield "wide.tiff", tiff(GRAY.astype(np.uint16) << 8)
    yield "floats.tiff", tiff(GRAY.astype(np.float32))
    yield "planes.tiff", tiff(np.moveaxis(RGB, 2, 0), planarconfig="separate", photometric="rgb")


def tiff(samples: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, metadata=None, software=False, **options)
    return buffer.getvalue()


PICTURE = base64.b64encode(png(GRAY)).decode()
ENCODED = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [PICTURE]}
PIXELS_INPUT: dict[str, Any] = {"name": "image", "datatype": "UINT8", "shape": [1, 12, 16, 3]}
SMALL = np.zeros(PIXELS_INPUT["shape"][1:], int).tolist()


def json_bodies() -> Iterator[tuple[str, bytes]]:
    """Each protocol, as it should be and a little beside it."""
    documents = [
        (0, {"images": [PICTURE, f"data:image/png;base64,{PICTURE}"]}),
        (0, {"pixels": [[0, 255, 7], [1, 2, 3]]}),
        (1, {"pixels": [[[[0, 1, 2]], [[3, 4, 5]]]]}),
        (1, {"pixels": [[0, 1.5], [1]]}),
        (2, {"id": "a", "inputs": [ENCODED], "outputs": [{"name": "argmax"}]}),
        (
            2,
            {
                "inputs": [ENCODED],
                "outputs": [
                    {"name": "probabilities", "parameters": {"classification": 3}},
                    {"name": "logits", "parameters": {"binary_data": True}},
                ],
                "parameters": {"binary_data_output": False},
            },
        ),
        (3, {"inputs": [{**PIXELS_INPUT, "data": [SMALL]}]}),
        (4, {"instances": [{"b64": PICTURE}]}),
        (4, {"signature_name": "serving_default", "inputs": {"image": [[0, 1], [2, 3]]}}),
        (5, {"ready": True}),
    ]
    for number, (path, document) in enumerate(documents):
        body = json.dumps(document, separators=(",", ":")).encode()
        yield f"{number}.json", bytes([ord("0") + path]) + body


def binaries() -> Iterator[tuple[str, bytes]]:
    """JSON with tensors behind it."""
    pixels = bytes(28 * 28)
    picture = png(GRAY)
    element = len(picture).to_bytes(4, "little") + picture
    outputs = [{"name": "probabilities", "parameters": {"binary_data": True}}]
    yield "raw", with_length(b"", pixels)
    for name, datatype, shape, data in (
        ("pixels", "UINT8", [1, 28, 28, 1], pixels),
        ("pictures", "BYTES", [2], element * 2),
    ):
        tensor = {
            "name": "image",
            "datatype": datatype,
            "shape": shape,
            "parameters": {"binary_data_size": len(data)},
        }
        yield name, with_length(json.dumps({"inputs": [tensor]}).encode(), data)
        asked = {"id": "b", "inputs": [tensor], "outputs": outputs}
        yield f"{name}_asked", with_length(json.dumps(asked).encode(), data)


def with_length(document: bytes, data: bytes) -> bytes:
    return len(document).to_bytes(HEADER_LENGTH_BYTES, "little") + document + data


SEEDS = {"image": images, "json": json_bodies, "binary": binaries}


def main() -> None:
    for target, seeds in SEEDS.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in seeds():
            (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
