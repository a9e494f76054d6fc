"""The largest requests that the default limits permit, of every form."""

from collections.abc import Iterator, Sequence

import numpy as np

from logitserve_service.config.settings import Settings
from tests.e2e.test_memory import PERMITTED, black_png
from tests.forms import FORMS, Ask, Form, Image
from tests.hunt.cases import post
from tests.hunt.clients import Case, Grpc
from tests.tiny_models import png

MAX_BYTES: int = Settings.model_fields["max_body_bytes"].default
MAX_PICTURES: int = Settings.model_fields["max_pictures"].default
SPARE = 200_000
"""Bytes of a body for what stands around images."""
JSON_IMAGES = 640
"""Of 28×28 pixels, each a list: hardly fewer JSON values than may be."""


def requests() -> Iterator[Case]:
    """Of each form: as many bytes as may be, as many images, and as many pixels in few bytes."""
    rng = np.random.default_rng(0)
    for form in FORMS:
        for images in _inputs(form, rng):
            yield _case(form, images)


def _inputs(form: Form, rng: np.random.Generator) -> Iterator[Sequence[Image]]:
    if not form.files:
        shape = (JSON_IMAGES, 28, 28, 1)
        if not form.json:
            shape = (MAX_PICTURES, 28, 28, 1)
        yield list(rng.integers(256, size=shape, dtype=np.uint8))
        return
    most = (MAX_BYTES - SPARE) * 3 // 4 if form.json else MAX_BYTES - SPARE
    counts = (1, MAX_PICTURES) if form.many else (1,)
    for count in counts:
        side = int((most / count) ** 0.5 * 0.98)
        # Noise is stored as it is, so that a file is as large as its pixels.
        yield [png(rng.integers(256, size=(side, side), dtype=np.uint8), compress_level=0)] * count
    for color_type in (0, 2):
        yield [black_png(PERMITTED, color_type)] * (2 if form.many else 1)


def _case(form: Form, images: Sequence[Image]) -> Case:
    encoded = form.encode(images)
    name = f"{form}: {len(images)} images, {len(encoded.body):,} bytes"
    assert len(encoded.body) <= MAX_BYTES, name
    if not form.over_http:
        return Grpc(name, b"\x0a\x06digits" + encoded.body, decodes=form.files)
    fields = (f"{field}: {value}" for field, value in encoded.fields)
    return post(name, form.target(Ask(images)), encoded.body, *fields, decodes=form.files)
