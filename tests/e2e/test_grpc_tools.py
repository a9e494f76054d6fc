"""Health checks and reflection, by the clients that gRPC's own packages have."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from logitserve_service.api import inference_pb2
from tests.e2e.conftest import published
from tests.e2e.metrics import wait_until
from tests.e2e.process import Server, running
from tests.e2e.profiles import OLD_KEY

Status = health_pb2.HealthCheckResponse
INFERENCE = "inference.GRPCInferenceService"
SECONDS = 20


def asked(service: str) -> Any:
    return health_pb2.HealthCheckRequest(service=service)


@pytest.fixture
def channel(server: Server) -> Iterator[Any]:
    with grpc.insecure_channel(server.grpc_address) as opened:
        yield opened


@pytest.mark.parametrize("service", ["", INFERENCE, "grpc.health.v1.Health", "digits", "scenes"])
def test_what_serves_is_serving(channel: Any, service: str) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    assert stub.Check(asked(service)).status == Status.SERVING
    assert next(stub.Watch(asked(service), timeout=SECONDS)).status == Status.SERVING


def test_what_there_is_not(channel: Any) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    with pytest.raises(grpc.RpcError) as raised:
        stub.Check(asked("digit"))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    assert "did you mean 'digits'?" in raised.value.details()
    assert next(stub.Watch(asked("digit"), timeout=SECONDS)).status == Status.SERVICE_UNKNOWN


def test_a_probe_needs_no_key_and_reflection_does(locked: Server) -> None:
    with grpc.insecure_channel(locked.grpc_address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(asked("digits")).status == Status.SERVING
        questions = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.RpcError) as raised:
            next(questions(iter([question])))
        assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert next(questions(iter([question]), metadata=[("x-api-key", OLD_KEY)]))


def test_a_probe_leaves_no_line_and_a_question_does(server: Server, channel: Any) -> None:
    metadata = [("x-request-id", "grpc-probe")]
    health_pb2_grpc.HealthStub(channel).Check(asked(""), metadata=metadata)
    watching = health_pb2_grpc.HealthStub(channel).Watch(
        asked("digits"), metadata=[("x-request-id", "grpc-watch")]
    )
    next(watching)
    watching.cancel()
    wait_until(lambda: any("grpc-watch" in line for line in list(server.log)))
    (line,) = [json.loads(line) for line in list(server.log) if "grpc-watch" in line]
    assert (line["route"], line["status"], line["client"]) == ("Watch", 499, "127.0.0.1")
    assert not any("grpc-probe" in line for line in list(server.log))


def test_reflection_describes_what_is_served(channel: Any) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert {INFERENCE, "grpc.health.v1.Health"} <= set(database.get_services())
    pool = DescriptorPool(database)
    methods = pool.FindServiceByName(INFERENCE).methods_by_name
    own = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    assert set(methods) == set(own)
    assert methods["ModelInfer"].input_type.full_name == "inference.ModelInferRequest"
    assert pool.FindMessageTypeByName("grpc.health.v1.HealthCheckRequest")


def test_reflection_has_both_of_its_names(channel: Any) -> None:
    """grpcurl and Postman ask for v1 first."""
    ask = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    questions = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=INFERENCE),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.Such"),
    ]
    first, second, third = ask(iter(questions), timeout=SECONDS)
    assert INFERENCE in {service.name for service in first.list_services_response.service}
    assert second.file_descriptor_response.file_descriptor_proto
    assert third.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_large_and_broken_questions_are_refused(channel: Any) -> None:
    for path, data in (
        ("grpc.health.v1.Health/Check", b"\x0a" + b"\x80\x80\x08" + bytes(2**17)),
        ("grpc.health.v1.Health/Check", b"\xff"),
        ("grpc.health.v1.Health/Watch", b"\xff"),
        ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", b"\xff"),
    ):
        call = channel.stream_stream(f"/{path}")
        with pytest.raises(grpc.RpcError) as raised:
            list(call(iter([data]), timeout=SECONDS))
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_watcher_is_told_of_changes_and_let_go_at_the_end(tmp_path: Path) -> None:
    published(tmp_path)
    options = ("--models", str(tmp_path), "--grpc-port", "0", "--watch-seconds", "0.1")
    with (
        running(*options) as server,
        grpc.insecure_channel(server.grpc_address) as channel,
        ThreadPoolExecutor() as threads,
    ):
        seen: list[int] = []
        told = threading.Condition()

        def watch() -> list[int]:
            for status in health_pb2_grpc.HealthStub(channel).Watch(asked("zero")):
                with told:
                    seen.append(status.status)
                    told.notify()
            return seen

        watching = threads.submit(watch)
        with told:
            assert told.wait_for(lambda: seen == [Status.SERVING], SECONDS)
            (tmp_path / "zero").rename(tmp_path / ".zero")
            assert told.wait_for(lambda: seen[1:] == [Status.SERVICE_UNKNOWN], SECONDS)
            (tmp_path / ".zero").rename(tmp_path / "zero")
            assert told.wait_for(lambda: seen[2:] == [Status.SERVING], SECONDS)
        assert server.stop() == 0
        assert watching.result(SECONDS)[3:] == [Status.NOT_SERVING]
    assert "cut off" not in "".join(server.log)
