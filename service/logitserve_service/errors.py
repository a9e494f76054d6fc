"""Errors that the service raises; `http/problems.py` maps them to responses.

ServiceError
├── UnauthenticatedError         no valid key
├── ForbiddenError               the key lacks the rights
│   ├── AdminKeyUnsetError       no admin key is configured
│   └── StoreUnsetError          no store is configured
├── UnreadableRequestError       the body cannot be parsed
├── MethodNotAllowedError
├── UnsupportedMediaTypeError
│   └── UnsupportedEncodingError
├── UnusableRequestError         parsed, but invalid for the route
├── BodyTooLargeError
├── JsonTooLargeError            too many values
├── TooManyStringsError          in the JSON
├── JsonTooDeepError             nested too deeply
├── TooManyImagesError
├── ImageTooLargeError           one image would exceed the memory limit
├── MessageTooLargeError         a gRPC message without its tensor data
├── TooManyChunksError           the body has too many small chunks
├── HeadTooLargeError            request line and header fields
├── RequestTimeoutError          the request does not arrive in time
│   ├── HeadTimeoutError
│   └── BodyTimeoutError
├── TooManyConnectionsError
├── BusyError                    overload; a retry may succeed
│   ├── QueueFullError
│   ├── TooManyBytesError        bodies of concurrent requests
│   ├── DecodersBusyError        large images of concurrent requests
│   └── ExplainersBusyError      explanations of concurrent requests
├── DeadlineError                the response takes too long
├── NotReadyError
│   ├── ModelUnavailableError    the model exists, but no version of it can be served
│   └── ExplainerLostError       the process that computes explanations ended
├── DriftUnavailableError        the card has no reference
│   └── WatchOffError
├── TooFewImagesError            for a baseline
├── StoreError                   the store cannot be read or written now
├── LoadError                    a load request failed
├── WorkersBehindError           some workers did not finish a load or unload in time
└── StartError                   the service cannot start; never sent
    └── SettingsError
"""


class ServiceError(Exception):
    """Base class: formats the template of the class with its arguments."""

    text = "{}"

    def __init__(self, *facts: object) -> None:
        super().__init__(self.text.format(*facts))


class UnauthenticatedError(ServiceError):
    """The request has no key, or no valid one."""

    text = "{}; send one as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"

    def __init__(self, *, wrong: bool) -> None:
        super().__init__("the key is not valid" if wrong else "a key is missing")


class ForbiddenError(ServiceError):
    """The key or the origin is valid, but has no right to this."""

    def __init__(
        self, reason: str = "an admin key is required; this key has no admin rights"
    ) -> None:
        super().__init__(reason)


class AdminKeyUnsetError(ForbiddenError):
    """An admin key is required, and none is configured."""

    text = "an admin key is required, and none is configured"


class StoreUnsetError(ForbiddenError):
    """A store is required, and none is configured."""

    text = "this route needs a store, and none is configured"

    def __init__(self) -> None:
        super().__init__(self.text)


class UnreadableRequestError(ServiceError):
    """The body cannot be parsed."""


class MethodNotAllowedError(ServiceError):
    """The route exists, but does not support this method."""

    text = "this route does not support {}; send {}{}"

    def __init__(self, method: str, allowed: str, example: str = "") -> None:
        super().__init__(method, allowed, example and f" (as in `{example}`)")
        self.allowed = allowed


class UnsupportedMediaTypeError(ServiceError):
    """The type of the body is not supported."""


class UnsupportedEncodingError(UnsupportedMediaTypeError):
    """The content encoding of the body is not supported, or there are several."""

    text = "content encoding {!r} is not supported; send gzip, deflate or no compression"


class UnusableRequestError(ServiceError):
    """The body was parsed, but is not valid for the route."""


class BodyTooLargeError(ServiceError):
    """The body, or its `Content-Length`, exceeds the limit."""

    text = "the body is larger than the limit of {} bytes"


class JsonTooLargeError(ServiceError):
    """The JSON has too many values."""

    text = (
        "the JSON has more values, lists and objects than the limit of {}; send images as files, "
        "or several requests"
    )


class TooManyStringsError(ServiceError):
    """The JSON has more strings and objects than any images need."""

    text = "the JSON has more strings and objects than the limit of {} for {} images"


class JsonTooDeepError(ServiceError):
    """The JSON is nested too deeply."""

    text = "the JSON is nested deeper than the limit of {} levels"


class TooManyImagesError(ServiceError):
    """The request has too many images."""

    text = "the request has more images than the limit of {}"


class ImageTooLargeError(ServiceError):
    """One image would exceed the memory limit of all images."""

    text = "decoding the image takes {} bytes of memory, and the limit is {}; send a smaller image"
    image: int | None = None
    """Index of the image within the request; None for a single image."""


class MessageTooLargeError(ServiceError):
    """A gRPC message has too many fields, or is too large without its tensor data."""

    text = (
        "the message has more than {} fields, or more than {} bytes without its tensor data; "
        "the model has one input"
    )


class TooManyChunksError(ServiceError):
    """The body is sent in too many small chunks."""

    text = "the body has more than {} chunks of under {} bytes on average; send larger chunks"


class HeadTooLargeError(ServiceError):
    """The request line and header fields exceed the limits."""

    text = "the head of the request is larger than {} bytes or {} fields"


class RequestTimeoutError(ServiceError):
    """A part of the request did not arrive in time."""


class HeadTimeoutError(RequestTimeoutError):
    """The request line and header fields did not arrive in time."""

    text = "the head of the request did not arrive within {:g} seconds"


class BodyTimeoutError(RequestTimeoutError):
    """The body did not arrive within its time limit."""

    text = "the body of the request did not arrive within {:g} seconds"


class TooManyConnectionsError(ServiceError):
    """The connection limit is reached."""

    text = "the limit of {} connections is exceeded; try again later"


class BusyError(ServiceError):
    """The service is overloaded; a retry after `retry_after` seconds may succeed."""

    retry_after = 1


class QueueFullError(BusyError):
    """The queue of a model is full; emptying it takes about `retry_after` seconds."""

    text = "the queue is full: its limit is {} images; try again later"

    def __init__(self, max_queue: int, retry_after: int) -> None:
        super().__init__(max_queue)
        self.retry_after = retry_after


class TooManyBytesError(BusyError):
    """The bodies of concurrent requests exceed their common limit."""

    text = "the bodies of concurrent requests exceed their limit of {} bytes; try again later"


class DecodersBusyError(BusyError):
    """A large image was not decoded before the deadline, because others came first."""

    text = "decoding was delayed beyond {} ms by other large images; try again later"


class ExplainersBusyError(BusyError):
    """Too many explanations are queued; one is computed at a time."""

    text = "{} explanations are queued already; try again later"


class DeadlineError(ServiceError):
    """The deadline of the request has passed."""

    text = "the request could not be answered within its {} ms"


class NotReadyError(ServiceError):
    """No model is loaded, or the service is stopping."""


class ModelUnavailableError(NotReadyError):
    """The model or version exists, but cannot be served at present."""


class ExplainerLostError(NotReadyError):
    """The process that computes explanations ended; the next request starts another one."""

    text = "the process that computes explanations has ended; try again"


class DriftUnavailableError(ServiceError):
    """The card has no reference to detect drift against."""

    text = (
        "the card of model {0!r} has no reference; `logitserve calibrate {0}` and "
        "`logitserve adopt --reference FOLDER` write one"
    )


class WatchOffError(DriftUnavailableError):
    """Drift detection is off."""

    text = "drift detection is off; start the service with --watch"


class TooFewImagesError(ServiceError):
    """A live baseline needs more images."""

    text = "a live baseline needs {} images, and only {} were counted since the start"


class StoreError(ServiceError):
    """The store is locked, its disk is full, or it is damaged; a retry may succeed."""

    text = "the store cannot be read or written: {}"


class LoadError(ServiceError):
    """A load request failed."""


class WorkersBehindError(ServiceError):
    """Some workers did not finish a load or unload in time."""

    text = (
        "{} workers have not finished within {:g} seconds, and continue; POST /v2/repository/index "
        "shows the state"
    )


class StartError(ServiceError):
    """The service cannot start; this error is never sent to a client."""


class SettingsError(StartError):
    """The value of a setting is invalid; secrets are not passed, so they are not shown."""

    def __init__(self, field: str, reason: str, value: object = None) -> None:
        shown = "" if value is None else f" (it is {value!r})"
        super().__init__(f"{field}: {reason}{shown}")
        self.field = field
