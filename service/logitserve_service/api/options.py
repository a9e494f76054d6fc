"""The query parameters of a prediction request."""

from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl

from pydantic import BaseModel, Field, ValidationError

from logitserve.inference import conformal
from logitserve.inference.card import COVERAGES, ModelCard
from logitserve.inference.naming import LONGEST_NAME, unknown
from logitserve.inference.rendering import PLAIN, OutputOptions
from logitserve_service import errors
from logitserve_service.errors import UnusableRequestError

PARAMETER: Final = "query parameter"
MAX_PARAMETERS: Final = 16


class PredictQuery(BaseModel):
    """The query parameters of a prediction."""

    top_k: int | None = Field(
        None, ge=1, description="number of classes in `probabilities`, most probable first"
    )
    calibrated: bool = Field(default=True, description="false: probabilities without calibration")
    coverage: float | None = Field(
        None,
        description="adds `set`, a prediction set that contains the true label in this share of "
        "the images",
        json_schema_extra={"minimum": COVERAGES[0], "maximum": COVERAGES[-1]},
    )
    allow_empty: bool = Field(
        default=True, description="false: every `set` contains the most probable label"
    )


def read_options(query: bytes, card: ModelCard) -> OutputOptions:
    """Parse the options of a request; raises CoverageError if the model has no such sets."""
    if not query:
        return PLAIN
    options = parse_options(query)
    if options.coverage is not None:
        conformal.check(card, options.coverage)
    return options


@lru_cache(maxsize=64)
def parse_options(query: bytes) -> OutputOptions:
    """Parse the options of a query; an empty query gives `PLAIN` itself."""
    if not query:
        return PLAIN
    parameters = _parameters(query)
    for name in parameters:
        if name not in PredictQuery.model_fields:
            raise UnusableRequestError(unknown(PARAMETER, name, PredictQuery.model_fields))
    try:
        return OutputOptions(**dict(PredictQuery.model_validate(parameters)))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UnusableRequestError(
            f"{PARAMETER} {first['loc'][0]!r}: {first['msg']}; it is {first['input']!r}"
        ) from error


def no_query(query: bytes) -> None:
    """Raise UnusableRequestError for any query parameter."""
    for name in _parameters(query) if query else ():
        raise UnusableRequestError(unknown(PARAMETER, name, ()))


def _parameters(query: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_PARAMETERS
        )
    except ValueError as error:
        raise errors.UnreadableRequestError(
            f"the query has over {MAX_PARAMETERS} parameters"
        ) from error
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UnusableRequestError(f"{PARAMETER} {twice[:LONGEST_NAME]!r} occurs twice")
    return parameters
