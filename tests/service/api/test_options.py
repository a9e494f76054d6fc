"""The query of a request → options, or an error that names the near miss."""

import pytest

from logitserve.inference.errors import CoverageError
from logitserve.inference.rendering import PLAIN, OutputOptions
from logitserve_service.api.options import no_query, parse_options, read_options
from logitserve_service.errors import UnreadableRequestError, UnusableRequestError
from tests.service.api.codec_helpers import CARD


@pytest.mark.parametrize(
    ("query", "options"),
    [
        (b"", PLAIN),
        (b"top_k=3", OutputOptions(top_k=3)),
        (b"top%5Fk=%33&", OutputOptions(top_k=3)),
        (b"coverage=0.9", OutputOptions(coverage=0.9)),
        (b"coverage=9e-1&top_k=1", OutputOptions(top_k=1, coverage=0.9)),
        *[
            (f"calibrated={value}".encode(), OutputOptions(calibrated=value in "true 1 yes on"))
            for value in ("true", "false", "1", "0", "yes", "no", "on", "off")
        ],
        (b"calibrated=False", OutputOptions(calibrated=False)),
    ],
)
def test_options(query: bytes, options: OutputOptions) -> None:
    assert parse_options(query) == options


def test_a_request_without_a_query_has_the_one_plain_object() -> None:
    assert parse_options(b"") is PLAIN
    assert parse_options(b"top_k=3") is parse_options(b"top_k=3")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (b"topk=3", "unknown query parameter 'topk'; did you mean 'top_k'?"),
        (
            b"TOP_K=3",
            "unknown query parameter 'TOP_K'.*known: allow_empty, calibrated, coverage, top_k",
        ),
        (b"calibrate=false", "did you mean 'calibrated'?"),
        (b"top_k=3&verbose=1", "unknown query parameter 'verbose'"),
        (b"x", "unknown query parameter 'x'"),
        (b"top_k=1&top_k=2", "'top_k' occurs twice"),
        (b"top_k=0", "'top_k': .* greater than or equal to 1; it is '0'"),
        (b"top_k=many", "'top_k': .* integer.*; it is 'many'"),
        (b"top_k=", "'top_k'"),
        (b"top_k=1.5", "'top_k'"),
        (b"calibrated=2", "'calibrated'"),
        (b"coverage=most", "'coverage'"),
        (b"%ff%fe=1", "unknown query parameter"),
        (b"x" * 60_000, f"unknown query parameter '{'x' * 64}'"),
    ],
)
def test_an_unusable_query(query: bytes, words: str) -> None:
    with pytest.raises(UnusableRequestError, match=words):
        parse_options(query)


def test_a_long_query_is_not_split() -> None:
    with pytest.raises(UnreadableRequestError, match="16"):
        parse_options(b"a=1&" * 17)


@pytest.mark.parametrize("coverage", [b"0.4", b"1", b"nan", b"-inf", b"0.9"])
def test_a_coverage_that_the_model_does_not_have(coverage: bytes) -> None:
    with pytest.raises(CoverageError):
        read_options(b"coverage=" + coverage, CARD)


def test_forms_without_options_refuse_any_query() -> None:
    no_query(b"")
    with pytest.raises(UnusableRequestError, match="unknown query parameter 'top_k'"):
        no_query(b"top_k=3")
