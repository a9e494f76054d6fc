"""Heads of requests that were read before.

A client that keeps its connection sends the same head again and again: only `Content-Length`
changes, and with small pictures not even that every time. Parsing costs more than finding it again
(`benchmarks/heads.py`), and the same bytes always mean the same.
"""

from typing import Final, NamedTuple

from starlette.types import Scope

from logitserve_service.telemetry.request_ids import REQUEST_ID_HEADER, TRACEPARENT_HEADER

MAX_HEADS: Final = 1024
MAX_HEAD_BYTES: Final = 1024
"""Of a head that is remembered. With these, what is remembered stays below 4 MiB."""

_END: Final = b"\r\n\r\n"
_UNIQUE: Final = frozenset({REQUEST_ID_HEADER, TRACEPARENT_HEADER})
"""Fields with which a head does not come again."""
_SAID: Final = ("method", "http_version", "path", "raw_path", "query_string")


class KnownHead(NamedTuple):
    """What a parser made of a head."""

    length: int
    """Bytes of the body."""
    said: Scope
    """What its first line says, as in a scope."""
    headers: list[tuple[bytes, bytes]]
    """Its fields, as in a scope."""
    fields: dict[bytes, bytes]
    """The same, by name."""


class KnownHeads:
    """Heads by their bytes. Only of requests after which the connection stays open."""

    def __init__(self) -> None:
        self._heads: dict[bytes, KnownHead] = {}

    def __len__(self) -> int:
        return len(self._heads)

    def remember(self, data: bytes, scope: Scope) -> None:
        """Keep what a parser made of these bytes, if they are one request and may come again.

        Args:
            data: all that was read since the last request ended.
            scope: what was made of it. It says `Content-Length`.
        """
        lines = data.find(_END)
        end = lines + len(_END)
        fields = dict(scope["headers"])
        length = int(fields[b"content-length"])
        if lines <= 0 or end > MAX_HEAD_BYTES or end + length != len(data):
            return
        if not _UNIQUE.isdisjoint(fields):
            return
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
        said = {name: scope[name] for name in _SAID}
        self._heads[data[:end]] = KnownHead(length, said, [*scope["headers"]], fields)

    def find(self, data: bytes) -> tuple[KnownHead, bytes] | None:
        """The head that bytes begin with, and the body, if they are one request with a known one.

        Args:
            data: all that was read since the last request ended.
        """
        end = data.find(_END) + len(_END)
        known = self._heads.get(data[:end])
        if known is None or end + known.length != len(data):
            return None
        return known, data[end:]
