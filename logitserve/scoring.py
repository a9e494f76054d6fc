"""Pictures in, rows out, without a server. Knows no file format and no command line.

One process scores with one `Predictor`; an engine that spreads pictures over machines calls
`score` in each of its workers.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

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


def unread(picture: Picture, error: OSError) -> Row:
    """The row of a picture whose file cannot be read."""
    return Row(picture.name, error=f"cannot be read: {error.strerror or error}")


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
    waiting = iter(pictures)
    while taken := list(islice(waiting, chunk)):
        yield from _rows(predictor, taken, top_k, max_pixels)


def _rows(
    predictor: Predictor, pictures: Sequence[Picture], top_k: int | None, max_pixels: int
) -> list[Row]:
    """The rows of one chunk."""
    spec = predictor.card.input
    needed = preprocessing.needed_side(spec)
    images: dict[int, preprocessing.Prepared] = {}
    rows: dict[int, Row] = {}
    for index, picture in enumerate(pictures):
        try:
            data = picture.read()
            samples = preprocessing.read(data, spec, max_pixels=max_pixels, needed=needed)
            images[index] = preprocessing.prepare([samples], spec, [data])
        except OSError as error:
            rows[index] = unread(picture, error)
        except ImageError as error:
            rows[index] = Row(picture.name, error=str(error))
    for index, outcome in _predicted(predictor, images, top_k).items():
        name = pictures[index].name
        if isinstance(outcome, Scores):
            rows[index] = Row(name, scores=outcome)
        else:
            rows[index] = Row(name, error=outcome)
    return [rows[index] for index in range(len(pictures))]


def _predicted(
    predictor: Predictor, images: dict[int, preprocessing.Prepared], top_k: int | None
) -> dict[int, Scores | str]:
    """Scores by number of the picture; where the logits are not finite, what is wrong instead."""
    if not images:
        return {}
    numbers = list(images)
    try:
        predictions = predictor.predict(preprocessing.together(list(images.values())))
    except NonFiniteLogitsError as error:
        failed: dict[int, Scores | str] = {numbers[row]: NOT_FINITE for row in error.rows}
        rest = {number: image for number, image in images.items() if number not in failed}
        return {**failed, **_predicted(predictor, rest, top_k)}
    rendered = render(predictor.card, predictions, OutputOptions(top_k=top_k))
    return {number: Scores(**said) for number, said in zip(numbers, rendered, strict=True)}
