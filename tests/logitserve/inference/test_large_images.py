"""Large images: decoded no larger than needed, and in no more memory than their header says."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from logitserve.inference import images, preprocessing
from logitserve.inference.card import Fit, InputSpec
from tests.tiny_models import random_picture

SIDE = 1500
SLACK = 2**20 * 3
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gray.png": ("L", "PNG", {}),
    "rgb.png": ("RGB", "PNG", {}),
    "rgba.png": ("RGBA", "PNG", {}),
    "16-bit.png": ("I;16", "PNG", {}),
    "palette.png": ("P", "PNG", {}),
    "transparent-palette.png": ("P", "PNG", {"transparency": 3}),
    "transparent.png": ("RGB", "PNG", {"transparency": (1, 1, 1)}),
    "gray.jpg": ("L", "JPEG", {}),
    "rgb.jpg": ("RGB", "JPEG", {"subsampling": 0}),
    "progressive.jpg": ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
    "cmyk.jpg": ("CMYK", "JPEG", {}),
    "rgba.webp": ("RGBA", "WEBP", {"lossless": True}),
    "rgb.bmp": ("RGB", "BMP", {}),
    "palette.gif": ("P", "GIF", {}),
    "bilevel.tif": ("1", "TIFF", {}),
    "cmyk.tif": ("CMYK", "TIFF", {}),
}
PROGRAM = """
import json, sys
from pathlib import Path
from logitserve.inference import images, preprocessing
from logitserve.inference.card import Fit, InputSpec
from logitserve_service.server.memory import give_back

give_back()
SPECS = [
    InputSpec(height=28, width=28, channels=1, fit=Fit.DIGIT),
    InputSpec(height=64, width=64, channels=3, fit=Fit.PAD),
]

def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

for file in sorted(Path(sys.argv[1]).iterdir()):
    data = file.read_bytes()
    for spec in SPECS:
        preprocessing.decode(data, spec)
        Path("/proc/self/clear_refs").write_text("5")
        before = status("VmRSS")
        preprocessing.decode(data, spec)
        took = status("VmHWM") - before
        most = images.memory(data, max_pixels=10**8, needed=preprocessing.needed_side(spec))
        print(file.name, spec.fit, took, most)
"""


def picture(mode: str) -> Image.Image:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    gray = ((rows + columns) % 251).astype(np.uint8)
    if mode == "I;16":
        return Image.fromarray(gray.astype(np.uint16) * 257)
    return Image.fromarray(gray).convert(mode)


def test_decoding_takes_no_more_memory_than_the_header_says(tmp_path: Path) -> None:
    for name, (mode, form, options) in KINDS.items():
        picture(mode).save(tmp_path / name, form, **options)
    program = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    printed = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in printed.splitlines()]
    assert len(lines) == 2 * len(KINDS)
    for name, fit, took, most in lines:
        assert int(took) <= int(most) + SLACK, (name, fit, took, most)
        assert int(most) <= 30 * SIDE * SIDE, (name, fit, most)


@pytest.mark.parametrize("data", [b"", b"nothing", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_what_is_refused_takes_none(data: bytes) -> None:
    assert images.memory(data, max_pixels=10**8) == 0


def test_too_many_pixels_take_none() -> None:
    for form in ("PNG", "JPEG"):
        buffer = io.BytesIO()
        Image.new("L", (50, 20)).save(buffer, form)
        assert images.memory(buffer.getvalue(), max_pixels=999) == 0
        assert images.memory(buffer.getvalue(), max_pixels=1000) > 0


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    needed=st.integers(1, 20),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_blocks_are_averaged(
    height: int, width: int, needed: int, channels: int, seed: int
) -> None:
    shape = (height, width) if channels == 1 else (height, width, channels)
    samples = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    found = images.averaged(samples, needed)
    factor = max(1, min(height, width) // needed)
    assert found.shape[:2] == (-(-height // factor), -(-width // factor))
    assert min(found.shape[:2]) >= min(needed, height, width)
    row, column = found.shape[0] // 2, found.shape[1] // 2
    block = samples[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
    np.testing.assert_allclose(found[row, column], block.mean(axis=(0, 1)), atol=1)


def test_transparent_pixels_have_no_color() -> None:
    samples = np.zeros((40, 40, 4), np.uint8)
    samples[:, ::2] = 200, 100, 50, 255
    samples[:, 1::2, :3] = 255
    found = images.averaged(samples, 20)
    assert found.shape == (20, 20, 4)
    np.testing.assert_allclose(found[..., :3], np.broadcast_to([200, 100, 50], (20, 20, 3)), atol=2)
    np.testing.assert_allclose(found[..., 3], 128, atol=1)


@pytest.mark.parametrize(
    ("size", "decoded"),
    [((4000, 3000), (500, 375)), ((1024, 768), (512, 384)), ((500, 500), (500, 500))],
)
def test_a_jpeg_is_decoded_no_larger_than_needed(
    size: tuple[int, int], decoded: tuple[int, int]
) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "JPEG")
    found = images.decode(buffer.getvalue(), needed=256)
    assert found.shape == (decoded[1], decoded[0], 3)
    assert images.decode(buffer.getvalue()).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_large_image_is_what_the_small_one_is(form: str) -> None:
    spec = InputSpec(height=28, width=28, channels=1, fit=Fit.STRETCH)
    small = Image.fromarray(random_picture(3, spec)[:, :, 0]).resize((280, 280))
    buffer = io.BytesIO()
    small.resize((2240, 2240), Image.Resampling.BICUBIC).save(buffer, form)
    found = preprocessing.decode(buffer.getvalue(), spec).astype(int)
    expected = preprocessing.fit(np.asarray(small), spec).astype(int)
    assert np.abs(found - expected).mean() < 4
