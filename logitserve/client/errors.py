"""What a client raises on purpose."""


class ClientError(Exception):
    """Base of every error that a client raises on purpose."""


class UnreachableError(ClientError):
    """The server cannot be reached, or the connection broke each time."""


class TooSlowError(ClientError):
    """The server did not answer within the timeout."""


class ResponseError(ClientError):
    """The server answered that something is wrong."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        self.detail = detail
        super().__init__(f"{status}: {detail}")
