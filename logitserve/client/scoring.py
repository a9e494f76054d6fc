"""Score pictures with a server; the rows are those of `logitserve.scoring`."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from logitserve.client.answers import Prediction
from logitserve.client.clients import Client
from logitserve.client.retries import ResponseError
from logitserve.client.steps import PICTURES_A_REQUEST, Asked
from logitserve.scoring import Picture, Row, Scores, rows

OF_A_PICTURE: Final = frozenset({400, 413, 415, 422})
"""Statuses that a single picture of a request may have caused."""


def score(client: Client, pictures: Iterable[Picture], asked: Asked) -> Iterator[Row]:
    """Score pictures, one row each, in their order.

    A picture that cannot be read, or that the server refuses, becomes a row with its error.

    Raises:
        ClientError: the request failed for another reason.
    """
    return rows(pictures, PICTURES_A_REQUEST, bytes, lambda files: _asked(client, files, asked))


def _asked(client: Client, files: Sequence[bytes], asked: Asked) -> list[Scores | str]:
    """Return the scores or error of each file; a refused batch is halved to find the cause."""
    if not files:
        return []
    try:
        return [_scores(said) for said in client.predict(files, **asked)]
    except ResponseError as error:
        if error.status not in OF_A_PICTURE:
            raise
        if len(files) == 1:
            return [error.detail]
    half = len(files) // 2
    return _asked(client, files[:half], asked) + _asked(client, files[half:], asked)


def _scores(said: Prediction) -> Scores:
    labels = None if said.labels is None else list(said.labels)
    probabilities = dict(said.probabilities)
    return Scores(said.argmax, said.label, said.probability, probabilities, labels, said.known)
