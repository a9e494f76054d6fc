"""The types of a codec, which has two pure functions, `read` and `write`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from logitserve.inference.card import ModelCard
from logitserve.inference.rendering import OutputOptions
from logitserve_service.execution.job import Inputs
from logitserve_service.execution.result import Result


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one request."""

    images: int
    json_values: int  # values, lists and objects together


class Content(NamedTuple):
    """The parts of a request that a codec reads."""

    body: bytes
    fields: Mapping[bytes, bytes]  # header fields; names in lower case
    query: bytes  # without the question mark


@dataclass(slots=True)
class Call:
    """A prediction request."""

    inputs: Inputs  # at least one
    options: OutputOptions | None = None  # None if the codec renders predictions itself
    form: Any = None  # data for the codec's `write`


Output = tuple[bytes, bytes]
"""The body of a response, and its header lines without `content-length`; names in lower case."""

Read = Callable[[Content, ModelCard, Limits], Call]
Write = Callable[[Call, Result], Output]


class Codec(NamedTuple):
    """The `read` and `write` functions of a request form."""

    read: Read
    write: Write
    instant: bool = False
    """Whether the run time of `read` is independent of the size of the body."""
