"""Bodies that come compressed (`Content-Encoding`; RFC 9110, section 8.4.1)."""

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
"""Bytes that are read or made at a time."""


def coding_of(fields: Mapping[bytes, bytes]) -> bytes | None:
    """How a body is compressed; None if it is not.

    Raises:
        UnsupportedEncodingError: in another way, or more than once.
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
    """Unpack a body in steps, each in a thread, whose memory is reserved before.

    Args:
        body: compressed.
        coding: as `coding_of` tells it.
        most: bytes that it may become.
        reserve: bytes that are needed → those that there is room for; raises where there is none.
        release: called with the bytes that were not needed.
        executor: of the thread.
        turn: one body at a time: two that share what room is left may both be refused.

    Raises:
        BodyTooLargeError: it becomes larger.
        UnreadableRequestError: it is broken or cut off, or more follows its end.
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
    """A body that is unpacked in steps."""

    def __init__(self, body: bytes, coding: bytes) -> None:
        self._packed = memoryview(body)
        self._name = coding.decode()
        self._decoder = zlib.decompressobj(_window_bits(body, coding))
        self._position = 0
        self._rest = b""
        self.complete = False

    def step(self, size: int) -> bytes:
        """The next bytes, at most as many; there may be none."""
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
            raise UnreadableRequestError(f"the {self._name} body is cut off")
        if decoder.eof and (decoder.unused_data or self._position < len(self._packed)):
            raise UnreadableRequestError(f"more follows the end of the {self._name} body")
        return part


def _window_bits(body: bytes, coding: bytes) -> int:
    """What zlib calls a format; `deflate` has zlib's header, which some clients leave out."""
    if coding == GZIP:
        return 16 + zlib.MAX_WBITS
    has_header = body[0] & 15 == zlib.DEFLATED and int.from_bytes(body[:2]) % 31 == 0
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
