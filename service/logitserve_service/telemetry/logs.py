"""Log lines on standard error, as text or as JSON.

Lines cannot be forged: characters that end a line are escaped, and tracebacks are indented.
"""

import logging
import re
import select
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal, TextIO

import orjson

from logitserve_service.telemetry.request_ids import current

LogFormat = Literal["text", "json"]

_STDERR: Final = 2
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@lru_cache(1)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def rfc3339(seconds: float) -> str:
    """Format seconds since the epoch as RFC 3339, in UTC, with milliseconds."""
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return f"{_second(whole)}.{milliseconds:03}Z"


def visible(text: str) -> str:
    """Escape characters that end a line or move a terminal's cursor."""
    return text if text.isprintable() else _CONTROL.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode()


def takes_more(descriptor: int) -> bool:
    """Return whether a file accepts PIPE_BUF bytes without blocking; a full pipe does not."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))


class _Handler(logging.StreamHandler[TextIO]):
    """Drops records that would block because the reader of standard error does not read."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        if takes_more(_STDERR):
            super().emit(record)


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO 4711 message request_id=…`, a traceback indented below."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line, and more lines for a traceback."""
        line = f"{rfc3339(record.created)} {record.levelname} {record.process} "
        line += visible(record.getMessage())
        line += "".join(f" {name}={value}" for name, value in current().items())
        trace = self.formatException(record.exc_info).split("\n") if record.exc_info else ()
        return "\n".join([line, *(f"  | {visible(each)}" for each in trace)])


class JsonFormatter(logging.Formatter):
    """Formats each record as a JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line."""
        members: dict[str, Any] = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": _encodable(record.getMessage()),
            **current(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            members["exception"] = _encodable(self.formatException(record.exc_info))
        return orjson.dumps(members).decode()


def _encodable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()  # UTF-8 cannot encode surrogates


def configure(log_format: LogFormat, log_level: str) -> None:
    """Set up all loggers and Python's warnings; `log_level` does not apply to libraries."""
    handler = _Handler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("logitserve").setLevel(log_level.upper())
    logging.captureWarnings(capture=True)
