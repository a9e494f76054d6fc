"""Pictures in, rows out, without a server. Knows no file format and no command line.

One process scores with one `Predictor`; an engine that spreads pictures over machines calls
`score` in each of its workers.
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
"""Pictures that are in memory at a time."""

NOT_FINITE: Final = str(NonFiniteLogitsError())


class Picture(NamedTuple):
    """An encoded picture that is read when its turn comes."""

    name: str
    read: Callable[[], bytes]
    """Gives the encoded file; may raise OSError."""


def shown(name: str) -> str:
    """A file's name as text that can be written, where it may have bytes that are none."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def unreadable(name: str, why: str) -> Picture:
    """A picture that is known to be none, so that it gets its row."""

    def read() -> bytes:
        raise OSError(why)

    return Picture(name, read)


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model says of one picture."""

    argmax: int
    """Index of the most probable class."""
    label: str
    probability: float
    """Of that class."""
    probabilities: dict[str, float]
    """Label → probability, in the order of the classes; with top_k the highest, in their order."""
    labels: list[str] | None = None
    """Sigmoid only: those at or above their thresholds."""
    known: bool | None = None
    """Whether the picture is like one of the labels at all; None where the card cannot tell."""


@dataclass(frozen=True, slots=True)
class Row:
    """One picture's scores, or why there are none."""

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

    A picture that cannot be read or used is a row with its error; the others go on.

    Args:
        predictor: the model.
        pictures: any number; no more than `chunk` are in memory.
        top_k: how many of the probabilities a row has, highest first; None for all.
        chunk: pictures of one run of the network.
        max_pixels: width × height that one picture may have.
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
    """A row for each picture, in their order.

    Args:
        pictures: any number; no more than `chunk` are in memory.
        chunk: how many are asked about together.
        prepared: what is asked about, of an encoded file; may raise ImageError.
        outcomes: for each of several, its scores or what is wrong with it.
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
    """Scores of each image; where the logits are not finite, what is wrong instead."""
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
