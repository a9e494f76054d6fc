"""Score pictures without a server. Independent of file formats and of the command line.

One process scores with one `Predictor`; a distributed engine calls `score` in each worker.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final, NamedTuple, TypeVar

from logitserve.inference import preprocessing
from logitserve.inference.errors import ImageError, NonFiniteLogitsError
from logitserve.inference.images import DEFAULT_MAX_PIXELS
from logitserve.inference.predictor import Predictor
from logitserve.inference.rendering import OutputOptions, render

CHUNK: Final = 64
"""Maximum number of pictures in memory."""

NOT_FINITE: Final = str(NonFiniteLogitsError())


class Picture(NamedTuple):
    """An encoded picture that is read when it is needed."""

    name: str
    read: Callable[[], bytes]
    """Returns the encoded file; may raise OSError."""


def shown(name: str) -> str:
    """Return a file's name as printable text; undecodable bytes are escaped."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def unreadable(name: str, why: str) -> Picture:
    """Return a picture whose row is an error."""

    def read() -> bytes:
        raise OSError(why)

    return Picture(name, read)


@dataclass(frozen=True, slots=True)
class Scores:
    """A model's prediction for one picture."""

    argmax: int
    """Index of the most probable class."""
    label: str
    probability: float
    """Probability of that class."""
    probabilities: dict[str, float]
    """Label → probability, in class order; with top_k, the highest in descending order."""
    labels: list[str] | None = None
    """Sigmoid only: labels at or above their thresholds."""
    known: bool | None = None
    """Whether the picture resembles the training data; None if the card cannot tell."""


@dataclass(frozen=True, slots=True)
class Row:
    """One picture's scores, or its error."""

    file: str
    scores: Scores | None = None
    error: str | None = None


def score(
    predictor: Predictor,
    pictures: Iterable[Picture],
    *,
    top_k: int | None = None,
    chunk: int = CHUNK,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Iterator[Row]:
    """Score pictures, one row each, in their order.

    A picture that cannot be read or decoded becomes a row with its error; scoring continues.

    Args:
        predictor: the model.
        pictures: any number; no more than `chunk` are in memory.
        top_k: number of probabilities per row, highest first; None for all.
        chunk: batch size.
        max_pixels: limit of width × height per picture.
    """
    spec = predictor.card.input
    needed = preprocessing.needed_side(spec)

    def prepared(data: bytes) -> preprocessing.Prepared:
        samples = preprocessing.read(data, spec, max_pixels=max_pixels, needed=needed)
        return preprocessing.prepare([samples], spec, [data])

    return rows(pictures, chunk, prepared, partial(_predicted, predictor, top_k))


T = TypeVar("T")


def rows(
    pictures: Iterable[Picture],
    chunk: int,
    prepared: Callable[[bytes], T],
    outcomes: Callable[[list[T]], list[Scores | str]],
) -> Iterator[Row]:
    """Yield a row for each picture, in their order.

    Args:
        pictures: any number; no more than `chunk` are in memory.
        chunk: batch size.
        prepared: turns an encoded file into an input; may raise ImageError.
        outcomes: returns the scores or the error text of each input of a batch.
    """
    waiting = iter(pictures)
    while taken := list(islice(waiting, chunk)):
        found: dict[int, Scores | str] = {}
        usable: dict[int, T] = {}
        for number, picture in enumerate(taken):
            try:
                usable[number] = prepared(picture.read())
            except OSError as error:
                found[number] = f"cannot be read: {error.strerror or error}"
            except ImageError as error:
                found[number] = str(error)
        found |= zip(usable, outcomes(list(usable.values())), strict=True)
        for number, picture in enumerate(taken):
            said = found[number]
            if isinstance(said, Scores):
                yield Row(picture.name, scores=said)
            else:
                yield Row(picture.name, error=said)


def _predicted(
    predictor: Predictor, top_k: int | None, images: list[preprocessing.Prepared]
) -> list[Scores | str]:
    """Return the scores of each image, or an error text where the logits are not finite."""
    if not images:
        return []
    try:
        predictions = predictor.predict(preprocessing.together(images))
    except NonFiniteLogitsError as error:
        rest = [image for row, image in enumerate(images) if row not in error.rows]
        others = iter(_predicted(predictor, top_k, rest))
        return [NOT_FINITE if row in error.rows else next(others) for row in range(len(images))]
    rendered = render(predictor.card, predictions, OutputOptions(top_k=top_k))
    return [Scores(**said) for said in rendered]
