"""What the front door raises on purpose; `cli.py` prints it as one line.

LogitserveError
├── ExtraMissingError     packages of an optional extra are not installed
├── ModelNotNamedError    several models, and none of them is the default
├── OutputError           the rows cannot be written as asked
└── AdoptionError         this ONNX file cannot become a model, or not without being told more
"""


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


class OutputError(LogitserveError):
    """The rows cannot be written as asked."""


class AdoptionError(LogitserveError):
    """This ONNX file cannot become a model, or not without being told more."""
