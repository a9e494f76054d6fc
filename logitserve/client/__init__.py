"""A client of the service: pictures in, typed predictions out.

    with Client("http://localhost:8000") as client:
        print(client.predict("three.png").label)

`AsyncClient` is the same with `await`. Needs httpx: pip install 'logitserve[client]'.

ClientError
├── UnreachableError    no connection, or it broke, as often as it was tried
├── TooSlowError        no answer within the timeout
└── ResponseError       the server says what is wrong: `status`, `detail`
"""

try:
    import httpx  # noqa: F401 - only to say what is missing
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "the client needs httpx, which is not installed: pip install 'logitserve[client]'"
    ) from error

from logitserve.client.answers import Model, ModelDetail, Prediction
from logitserve.client.clients import AsyncClient, Client
from logitserve.client.pictures import Picture, encoded
from logitserve.client.retries import (
    ClientError,
    ResponseError,
    Retries,
    TooSlowError,
    UnreachableError,
)
from logitserve.client.steps import PICTURES_A_REQUEST

__all__ = [
    "PICTURES_A_REQUEST",
    "AsyncClient",
    "Client",
    "ClientError",
    "Model",
    "ModelDetail",
    "Picture",
    "Prediction",
    "ResponseError",
    "Retries",
    "TooSlowError",
    "UnreachableError",
    "encoded",
]
