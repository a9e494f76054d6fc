"""What the service raises on purpose; `problems.py` turns it into responses.

ServiceError
├── UnauthenticatedError         no key, or none that is valid
├── ForbiddenError               a key that may not do this
│   └── AdminKeyUnsetError       nobody may, as no key is set that may
├── UnreadableRequestError       the body cannot be parsed
├── UnsupportedMediaTypeError    the body is of a type that is not read here
├── UnusableRequestError         the body was parsed, but is not what the route takes
├── BodyTooLargeError
├── JsonTooLargeError            more values
├── JsonTooDeepError             lists and objects in one another
├── TooManyPicturesError
├── HeadTooLargeError            request line and header fields
├── RequestTimeoutError          the request does not arrive
│   ├── HeadTimeoutError
│   └── BodyTimeoutError
├── TooManyConnectionsError
├── BusyError                    there is too much to do; trying again later helps
│   ├── QueueFullError
│   └── TooManyBytesError        bodies of other requests
├── DeadlineError                the request takes too long to answer
├── ClientGoneError              nobody is left to be answered
├── NotReadyError
│   └── ModelUnavailableError    the model is there, but none of its versions can be served
├── LoadError                    a model cannot be loaded as somebody asked
├── WorkersBehindError           not every worker has done in time what was ordered
└── StartError                   the service cannot start; never met by a request
    └── SettingsError
"""


class ServiceError(Exception):
    """Base of every error that this package raises on purpose."""


class UnauthenticatedError(ServiceError):
    """The request has no key, or none that is valid."""

    def __init__(self, *, wrong: bool) -> None:
        problem = "the key is not valid" if wrong else "a key is missing"
        super().__init__(f"{problem}; send one as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")


class ForbiddenError(ServiceError):
    """The key of the request is valid, but not for this."""

    def __init__(self, reason: str = "this needs an admin key, and the key is none") -> None:
        super().__init__(reason)


class AdminKeyUnsetError(ForbiddenError):
    """Nobody may do this, as no key is set that may."""

    def __init__(self) -> None:
        super().__init__("this needs an admin key, and the service has none")


class UnreadableRequestError(ServiceError):
    """The body cannot be parsed."""


class UnsupportedMediaTypeError(ServiceError):
    """The body is of a type that is not read here."""


class UnusableRequestError(ServiceError):
    """The body was parsed, but is not what the route takes."""


class BodyTooLargeError(ServiceError):
    """The body has, or announces, more bytes than are allowed."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"the body is larger than the limit of {max_bytes} bytes")


class JsonTooLargeError(ServiceError):
    """The JSON has more values than are allowed."""

    def __init__(self, max_values: int) -> None:
        super().__init__(
            f"the JSON has more values, lists and objects than the limit of {max_values}; send "
            "pictures as files, or several requests"
        )


class JsonTooDeepError(ServiceError):
    """The JSON is nested more deeply than is allowed."""

    def __init__(self, max_depth: int) -> None:
        super().__init__(f"the JSON is nested deeper than the limit of {max_depth} levels")


class TooManyPicturesError(ServiceError):
    """The request carries more pictures than are allowed."""

    def __init__(self, max_pictures: int) -> None:
        super().__init__(f"the request has more pictures than the limit of {max_pictures}")


class HeadTooLargeError(ServiceError):
    """The request line and the header fields are larger than is read here."""

    def __init__(self, max_bytes: int, max_fields: int) -> None:
        super().__init__(
            f"the head of the request is larger than {max_bytes} bytes or {max_fields} fields"
        )


class RequestTimeoutError(ServiceError):
    """The request does not arrive."""

    def __init__(self, part: str, seconds: float) -> None:
        super().__init__(f"the {part} of the request did not arrive within {seconds:g} seconds")


class HeadTimeoutError(RequestTimeoutError):
    """The request line and the header fields do not arrive."""

    def __init__(self, seconds: float) -> None:
        super().__init__("head", seconds)


class BodyTimeoutError(RequestTimeoutError):
    """The body does not arrive."""

    def __init__(self, seconds: float) -> None:
        super().__init__("body", seconds)


class TooManyConnectionsError(ServiceError):
    """There are more connections than are allowed, and this one is the last to come."""

    def __init__(self, max_connections: int) -> None:
        super().__init__(
            f"there are more connections than the limit of {max_connections}; try again later"
        )


class BusyError(ServiceError):
    """There is too much to do at the moment."""

    def __init__(self, reason: str, retry_after: int = 1) -> None:
        self.retry_after = retry_after
        """Seconds until trying again may help."""
        super().__init__(f"{reason}; try again later")


class QueueFullError(BusyError):
    """More pictures are waiting than are allowed."""

    def __init__(self, max_queue: int, retry_after: int) -> None:
        """Say so; what waits now will have been answered after `retry_after` seconds."""
        super().__init__(f"the queue is full: its limit is {max_queue} pictures", retry_after)


class TooManyBytesError(BusyError):
    """The bodies of all requests together have more bytes than are allowed."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"the bodies of all requests reach their limit of {max_bytes} bytes")


class DeadlineError(ServiceError):
    """The request takes longer to answer than it may."""

    def __init__(self, timeout_ms: int) -> None:
        super().__init__(f"the request could not be answered within its {timeout_ms} ms")


class ClientGoneError(ServiceError):
    """The client went away before its answer was ready."""

    def __init__(self) -> None:
        super().__init__("the client went away")


class NotReadyError(ServiceError):
    """The service has no model to answer with, yet or any more."""


class ModelUnavailableError(NotReadyError):
    """The model is in the folder, but what was asked of it cannot be served now."""


class LoadError(ServiceError):
    """A model cannot be loaded as somebody asked."""


class WorkersBehindError(ServiceError):
    """Not every worker has done in time what was ordered."""

    def __init__(self, workers: int, seconds: float) -> None:
        super().__init__(
            f"{workers} of the workers have not done it within {seconds:g} seconds; the order "
            "stands, and they will: ask POST /v2/repository/index"
        )


class StartError(ServiceError):
    """The service cannot start."""


class SettingsError(StartError):
    """A setting has a value that does not fit."""

    def __init__(self, field: str, reason: str, value: object = None) -> None:
        """Say why; the value is shown unless it is none, as that of a secret."""
        self.field = field
        shown = "" if value is None else f" (it is {value!r})"
        super().__init__(f"{field}: {reason}{shown}")
