"""JSON from clients: held against its limits before anything is made of it.

Two bytes of a body, `[]`, become a list of Python's, so what is read can be many times larger than
what was sent. What is counted here is bytes, which is quick and makes nothing.
"""

from typing import Any

import numpy as np
import orjson

from logitserve_service.errors import JsonTooDeepError, JsonTooLargeError, UnreadableRequestError
from logitserve_service.http.limits import RequestLimits

_BRACKETS = b"[]{}"
_OTHERS = bytes(set(range(256)) - set(_BRACKETS))
_CHUNK = 2**20


def read_json(body: bytes, limits: RequestLimits) -> Any:
    """What a body says.

    Raises:
        JsonTooLargeError: it has more values than are allowed.
        JsonTooDeepError: it is nested more deeply than is allowed.
        UnreadableRequestError: it is not JSON.
    """
    containers = body.count(b"[") + body.count(b"{")
    if len(body) > limits.json_values:  # else it cannot have more
        values = containers + body.count(b",") + body.count(b'"') // 2
        if values > limits.json_values:
            raise JsonTooLargeError(limits.json_values)
    if containers > limits.json_depth and _depth(body) > limits.json_depth:
        raise JsonTooDeepError(limits.json_depth)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreadableRequestError(f"the body is not JSON: {error}") from error


def _depth(body: bytes) -> int:
    """The most lists and objects that are open at one place."""
    without_escapes = body.replace(rb"\\", b"").replace(rb"\"", b"")
    without_strings = b"".join(without_escapes.split(b'"')[::2])
    brackets = without_strings.translate(None, _OTHERS)
    deepest = depth = 0
    for start in range(0, len(brackets), _CHUNK):
        chunk = np.frombuffer(brackets[start : start + _CHUNK], np.uint8)
        # Of each pair, the one that opens is 0x5b or 0x7b.
        depths = depth + np.where(chunk & 0xDF == 0x5B, 1, -1).cumsum()
        deepest = max(deepest, int(depths.max()))
        depth = int(depths[-1])
    return deepest
