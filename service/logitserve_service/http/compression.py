"""Decompress request bodies (`Content-Encoding`; RFC 9110, section 8.4.1)."""

import asyncio
import io
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Final

from logitserve_service.errors import (
    BodyTooLargeError,
    UnreadableRequestError,
    UnsupportedEncodingError,
)

GZIP, DEFLATE = b"gzip", b"deflate"
STEP: Final = 2**18
"""Maximum bytes read, and written, per step."""


def coding_of(fields: Mapping[bytes, bytes]) -> bytes | None:
    """Return the content coding of a body; None without one.

    Raises:
        UnsupportedEncodingError: the coding is neither gzip nor deflate, or there are several.
    """
    given = fields.get(b"content-encoding")
    if given is None:
        return None
    codings = [name.strip().lower().removeprefix(b"x-") for name in given.split(b",")]
    codings = [name for name in codings if name not in (b"", b"identity")]
    if not codings:
        return None
    if len(codings) == 1 and codings[0] in (GZIP, DEFLATE):
        return codings[0]
    raise UnsupportedEncodingError(given[:40].decode("latin-1"))


async def unpack(
    body: bytes,
    coding: bytes,
    *,
    most: int,
    reserve: Callable[[int], int],
    release: Callable[[int], None],
    executor: Executor,
    turn: asyncio.Lock,
) -> bytes:
    """Decompress a body in steps, each in a thread; memory is reserved before each step.

    Args:
        body: the compressed body.
        coding: the result of `coding_of`.
        most: maximum decompressed size in bytes.
        reserve: maps the needed bytes to the bytes reserved; raises if none are left.
        release: called with the reserved bytes that were not needed.
        executor: runs the steps.
        turn: serializes bodies, because two that share the remaining memory could both fail.

    Raises:
        BodyTooLargeError: the decompressed body is larger than `most`.
        UnreadableRequestError: the body is invalid or truncated, or has trailing data.
    """
    loop = asyncio.get_running_loop()
    decoder = _Decoder(body, coding)
    unpacked = io.BytesIO()
    async with turn:
        while not decoder.complete:
            size = reserve(min(STEP, most + 1 - unpacked.tell()))
            part = await loop.run_in_executor(executor, decoder.step, size)
            release(size - len(part))
            unpacked.write(part)
            if unpacked.tell() > most:
                raise BodyTooLargeError(most)
    return unpacked.getvalue()


class _Decoder:
    """Decompresses a body in steps."""

    def __init__(self, body: bytes, coding: bytes) -> None:
        self._packed = memoryview(body)
        self._name = coding.decode()
        self._decoder = zlib.decompressobj(_window_bits(body, coding))
        self._position = 0
        self._rest = b""
        self.complete = False

    def step(self, size: int) -> bytes:
        """Return up to `size` further bytes, possibly none."""
        decoder = self._decoder
        piece: bytes | memoryview = self._rest
        if not piece:
            piece = self._packed[self._position : self._position + STEP]
            self._position += len(piece)
        try:
            part = decoder.decompress(piece, size)
        except zlib.error as error:
            raise UnreadableRequestError(f"the body is not {self._name}, or damaged") from error
        self._rest = decoder.unconsumed_tail
        self.complete = decoder.eof
        if not (piece or part or decoder.eof):
            raise UnreadableRequestError(f"the {self._name} body is truncated")
        if decoder.eof and (decoder.unused_data or self._position < len(self._packed)):
            raise UnreadableRequestError(f"the {self._name} body has trailing data")
        return part


def _window_bits(body: bytes, coding: bytes) -> int:
    """Return zlib's `wbits`; `deflate` has a zlib header, which some clients omit."""
    if coding == GZIP:
        return 16 + zlib.MAX_WBITS
    has_header = body[0] & 15 == zlib.DEFLATED and int.from_bytes(body[:2]) % 31 == 0
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
