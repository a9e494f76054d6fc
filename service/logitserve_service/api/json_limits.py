"""Parse request JSON; its limits are checked before it is parsed.

Two bytes, `[]`, become a Python list, so parsed JSON can be many times larger than the body.
"""

import codecs
from typing import Any

import numpy as np
import orjson

from logitserve_service.api.call import Limits
from logitserve_service.errors import (
    JsonTooDeepError,
    JsonTooLargeError,
    TooManyStringsError,
    UnreadableRequestError,
)

PER_IMAGE, BESIDES = 8, 1000
"""Maximum strings and objects per image, and for the rest. No form needs more than 5 per image.
Each becomes a Python object of up to 80 times the size of its text; numbers and lists do not."""
MAX_DEPTH = 32  # nested lists and objects; no form needs more than 8

_BOM = codecs.BOM_UTF8  # .NET and PowerShell write it; a reader may skip it (RFC 8259, 8.1)
_BRACKETS = b"[]{}"
_OTHERS = bytes(set(range(256)) - set(_BRACKETS))
_CHUNK = 2**20


def read_json(body: bytes, limits: Limits) -> Any:
    """Parse a body after checking the limits on its values and depth.

    Raises:
        JsonTooLargeError: the body has too many values.
        TooManyStringsError: the body has more strings and objects than any images need.
        JsonTooDeepError: the body is nested too deeply.
        UnreadableRequestError: the body is not JSON.
    """
    most = PER_IMAGE * limits.images + BESIDES
    if len(body) > most and body.count(b"{") + body.count(b'"') // 2 > most:
        raise TooManyStringsError(most, limits.images)
    containers = body.count(b"[") + body.count(b"{")
    if len(body) > limits.json_values:  # a shorter body cannot have more values
        values = containers + body.count(b",") + body.count(b'"') // 2
        if values > limits.json_values:
            raise JsonTooLargeError(limits.json_values)
    if containers > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        raise JsonTooDeepError(MAX_DEPTH)
    try:
        return orjson.loads(body[len(_BOM) :] if body[: len(_BOM)] == _BOM else body)
    except orjson.JSONDecodeError as error:
        raise UnreadableRequestError(f"the body is not JSON: {error}") from error


def _depth(body: bytes) -> int:
    without_escapes = body.replace(rb"\\", b"").replace(rb"\"", b"")
    without_strings = b"".join(without_escapes.split(b'"')[::2])
    brackets = without_strings.translate(None, _OTHERS)
    deepest = depth = 0
    for start in range(0, len(brackets), _CHUNK):
        chunk = np.frombuffer(brackets[start : start + _CHUNK], np.uint8)
        # The opening brackets are 0x5b and 0x7b.
        depths = depth + np.where(chunk & 0xDF == 0x5B, 1, -1).cumsum()
        deepest = max(deepest, int(depths.max()))
        depth = int(depths[-1])
    return deepest
