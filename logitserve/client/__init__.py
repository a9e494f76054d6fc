"""HTTP client of the service with typed predictions.

    with Client("http://localhost:8000") as client:
        print(client.predict("three.png").label)

`AsyncClient` has the same methods, to be awaited. Needs httpx: pip install 'logitserve[client]'.

ClientError
├── UnreachableError    no connection, or it broke, after all retries
├── TooSlowError        no answer within the timeout
└── ResponseError       the server returned an error: `status`, `detail`
"""

try:
    import httpx  # noqa: F401 - only to report that it is missing
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
