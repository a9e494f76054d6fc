"""How gRPC tells the errors of the one table."""

import grpc

from logitserve_service.http.problems import STATUS, problem
from logitserve_service.server.grpc.servicer import CODES


def test_every_status_of_an_error_has_a_code() -> None:
    assert set(STATUS.values()) <= set(CODES)


def test_only_what_may_be_tried_again_is_told_so() -> None:
    again = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}
    assert {status for status, code in CODES.items() if code in again} == {429, 503}


def test_every_code_stands_for_a_problem_of_http() -> None:
    for status in CODES:
        assert problem(status, "detail").status_code == status
