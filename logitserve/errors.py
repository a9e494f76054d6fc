"""Errors raised on purpose; `cli/main.py` prints each as one line.

LogitserveError
├── ExtraMissingError     packages of an optional extra are not installed
├── ModelNotNamedError    several models, no default, and no model was named
├── SourceError           pictures are missing or have the wrong format
├── OutputError           the rows cannot be written as requested
├── EngineError           a scoring engine cannot start, or died
└── AdoptionError         the ONNX file is unsuitable, or more options are needed
"""

import socket


class LogitserveError(Exception):
    """Base class of every error that this package raises on purpose, except the client's."""


class ExtraMissingError(LogitserveError):
    """The packages of an optional extra are not installed."""

    def __init__(self, extra: str, package: str) -> None:
        super().__init__(
            f"this needs {package}, which is not installed: pip install 'logitserve[{extra}]'"
        )


class ModelNotNamedError(LogitserveError):
    """There are several models, and none was named."""


class SourceError(LogitserveError):
    """Pictures are missing or have the wrong format."""

    @classmethod
    def not_found(cls, path: str) -> "SourceError":
        """Return the error for a listed path that does not exist on this machine."""
        return cls(
            f"{socket.gethostname()} does not find {path}; sources must have the same path on "
            "every machine that scores them"
        )


class OutputError(LogitserveError):
    """The rows cannot be written as requested."""


class EngineError(LogitserveError):
    """A scoring engine cannot start, or died."""


class AdoptionError(LogitserveError):
    """The ONNX file cannot be adopted, or more options are needed."""
