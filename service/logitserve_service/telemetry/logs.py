"""One line a record: for people, or JSON for machines. All loggers of the process write here.

A line cannot be forged: what came from outside is escaped, and tracebacks are indented.
"""

import logging
import logging.config
import re
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from logitserve_service.telemetry.request_ids import current

LogFormat = Literal["text", "json"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def rfc3339(seconds: float) -> str:
    """A time since the epoch as RFC 3339 has it, in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def visible(text: str) -> str:
    """The text with everything escaped that ends a line or moves a terminal's cursor."""
    return _CONTROL.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO 4711 message request_id=…`, a traceback indented below."""

    def format(self, record: logging.LogRecord) -> str:
        """As a line, or several where there is a traceback."""
        identity = current()
        words = [
            rfc3339(record.created),
            record.levelname,
            str(record.process),
            visible(record.getMessage()),
            *(f"{name}={value}" for name, value in identity.items()),
        ]
        lines = [" ".join(words)]
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            lines += [f"  | {visible(line)}" for line in trace.split("\n")]
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """An object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """As a line."""
        members: dict[str, Any] = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
            **current(),
        }
        if record.exc_info:
            members["exception"] = self.formatException(record.exc_info)
        said = {
            name: _SURROGATE.sub(_escaped, value) if isinstance(value, str) else value
            for name, value in members.items()
        }
        return orjson.dumps(said).decode()


FORMATTERS: dict[LogFormat, type[logging.Formatter]] = {
    "text": TextFormatter,
    "json": JsonFormatter,
}


def configure(log_format: LogFormat, log_level: str) -> None:
    """Let every logger of this process, and Python's warnings, write to standard error.

    Args:
        log_format: of all lines.
        log_level: the least severe of our own messages; other libraries' begin at warnings.
    """
    logging.captureWarnings(capture=True)
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"()": FORMATTERS[log_format]}},
            "handlers": {"standard error": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"handlers": ["standard error"], "level": "WARNING"},
            "loggers": {"logitserve": {"level": log_level.upper()}},
        }
    )
