"""Ids that requests bring, and those that are made."""

import pytest

from logitserve_service.telemetry.request_ids import RequestIds, current, identified

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def test_made_ids_differ() -> None:
    ids, others = RequestIds(), RequestIds()
    made = {each.read({})[0] for each in (ids, ids, others, others)}
    assert len(made) == 4


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (b"mine", True),
        (b"a" * 128, True),
        (b"!~", True),
        (b"a" * 129, False),
        (b"", False),
        (b"a b", False),
        (b"a\x1b[2Jb", False),
        (b"a\x7f", False),
        ("ä".encode(), False),
    ],
)
def test_an_acceptable_id_is_taken(given: bytes, *, taken: bool) -> None:
    request_id, trace = RequestIds().read({b"host": b"x", b"x-request-id": given})
    assert (request_id == given) == taken
    assert request_id
    assert trace is None


@pytest.mark.parametrize(
    ("given", "continued"),
    [
        (f"00-{TRACE}-{PARENT}-01", True),
        (f"00-{TRACE}-{PARENT}-00", True),
        (f"42-{TRACE}-{PARENT}-01-more", True),
        (f"00-{TRACE}-{PARENT}-01-more", False),
        (f"ff-{TRACE}-{PARENT}-01", False),
        (f"00-{'0' * 32}-{PARENT}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-{PARENT}-01", False),
        (f"00-{TRACE}-{PARENT}", False),
        ("", False),
    ],
)
def test_a_trace_is_continued(given: str, *, continued: bool) -> None:
    _, trace = RequestIds().read({b"traceparent": given.encode()})
    assert (trace is not None) == continued
    if trace is not None:
        assert trace[:2] == (TRACE, PARENT)
        assert trace.sampled == (given[53:55] == "01")
        assert len(trace.span_id) == 16
        assert trace.span_id != PARENT


def test_log_lines_name_the_request() -> None:
    identity = RequestIds().read(
        {b"x-request-id": b"mine", b"traceparent": f"00-{TRACE}-{PARENT}-01".encode()}
    )
    assert identity[1] is not None
    with identified(identity):
        ids = {"request_id": "mine", "trace_id": TRACE, "span_id": identity[1].span_id}
        assert current() == ids
    assert current() == {}
