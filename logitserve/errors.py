"""What the front door raises on purpose; `cli.py` prints it as one line.

LogitserveError
├── ExtraMissingError     packages of an optional extra are not installed
├── ModelNotNamedError    several models, and none of them is the default
├── SourceError           pictures are not where, or not what, they were said to be
├── OutputError           the rows cannot be written as asked
├── EngineError           what scores cannot start, or does not live
└── AdoptionError         this ONNX file cannot become a model, or not without being told more
"""

import socket


class LogitserveError(Exception):
    """Base of every error that this package raises on purpose, but for the client's."""


class ExtraMissingError(LogitserveError):
    """Packages of an optional extra are not installed."""

    def __init__(self, extra: str, package: str) -> None:
        super().__init__(
            f"this needs {package}, which is not installed: pip install 'logitserve[{extra}]'"
        )


class ModelNotNamedError(LogitserveError):
    """There are several models, and it was not said which."""


class SourceError(LogitserveError):
    """Pictures are not where, or not what, they were said to be."""

    @classmethod
    def not_found(cls, path: str) -> "SourceError":
        """One for a path that a machine does not find, though it was listed."""
        return cls(
            f"{socket.gethostname()} does not find {path}; sources must lie where every machine "
            "that scores finds them under the same path"
        )


class OutputError(LogitserveError):
    """The rows cannot be written as asked."""


class EngineError(LogitserveError):
    """What scores cannot start, or does not live."""


class AdoptionError(LogitserveError):
    """This ONNX file cannot become a model, or not without being told more."""
