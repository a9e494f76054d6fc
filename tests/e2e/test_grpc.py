"""The Open Inference Protocol over gRPC: one server, Triton's client, and our own messages."""

import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest

from logitserve_service.server.grpc import inference_pb2 as pb
from tests.e2e.conftest import Weights
from tests.e2e.process import Server, clean_environment, run, running
from tests.e2e.test_protocol_clients import ask, assert_right, assert_top_three
from tests.e2e.test_start import assert_one_clear_line
from tests.e2e.test_v2 import PICTURES
from tests.tiny_models import linear_logits

CALL_SECONDS = 30
Spoil = Callable[[pb.ModelInferRequest], None]


def grpc_address(server: Server) -> str:
    """Where gRPC is served; the answer of a probe tells that it is."""
    httpx.get(f"{server.url}/readyz", timeout=CALL_SECONDS).raise_for_status()
    (port,) = re.findall(r"serving gRPC on port (\d+)", "".join(server.log))
    return f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def with_grpc(models: tuple[Path, Weights]) -> Iterator[Server]:
    folder = str(models[0])
    limits = ("--max-body-bytes", "1000000", "--max-pictures", "40", "--version-policy", "all")
    with running("--models", folder, "--grpc-port", "0", *limits) as started:
        yield started


def infer(address: str, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        answer: pb.ModelInferResponse = call(request, timeout=CALL_SECONDS)
        return answer


def good_request() -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="digits", id="7")
    request.inputs.add(name="image", datatype="UINT8", shape=PICTURES.shape)
    request.raw_input_contents.append(PICTURES.tobytes())
    return request


def test_tritonclient_grpc(
    clients: str, with_grpc: Server, weights: Weights, tmp_path: Path
) -> None:
    answers, facts = ask(clients, "triton_grpc", grpc_address(with_grpc), tmp_path)
    assert_right(answers, weights, forms=5)
    assert_top_three(facts["top"], weights)
    assert (facts["id"], facts["version"]) == ("raw", "1")
    assert (facts["live"], facts["ready"], facts["model ready"]) == (True, True, True)
    assert facts["extensions"] == ["binary_tensor_data", "classification"]
    assert facts["versions"] == ["1", "2"]
    assert facts["shapes"] == [[-1, 28, 28, 1], [-1, 10], [-1, 10], [-1]]
    assert facts["index"][0] == "digits/1 READY"
    assert len(facts["index"]) == 5
    expected = {
        "model": ("NOT_FOUND", "'cats'"),
        "version": ("NOT_FOUND", "'9'"),
        "name": ("INVALID_ARGUMENT", "'pixels'"),
        "datatype": ("INVALID_ARGUMENT", "'FP32'"),
        "shape": ("INVALID_ARGUMENT", "[5, 784]"),
        "bytes": ("INVALID_ARGUMENT", "3920 bytes of data"),
        "none": ("INVALID_ARGUMENT", "at least 1"),
        "negative": ("INVALID_ARGUMENT", "at least 1"),
        "many": ("INVALID_ARGUMENT", "LOGITSERVE_MAX_PICTURES"),
        "large": ("RESOURCE_EXHAUSTED", "1000000"),
        "picture": ("INVALID_ARGUMENT", "not a picture that is read"),
        "output": ("INVALID_ARGUMENT", "'softmax'"),
        "class of a class": ("INVALID_ARGUMENT", "'argmax'"),
        "no classes": ("INVALID_ARGUMENT", "at least 1"),
    }
    assert set(facts["errors"]) == set(expected)
    for case, (code, words) in expected.items():
        assert facts["errors"][case].startswith(f"StatusCode.{code} "), facts["errors"][case]
        assert words in facts["errors"][case]


def both_contents(request: pb.ModelInferRequest) -> None:
    request.inputs[0].contents.uint_contents.extend([1])


def no_contents(request: pb.ModelInferRequest) -> None:
    del request.raw_input_contents[:]


def two_contents(request: pb.ModelInferRequest) -> None:
    request.raw_input_contents.append(b"1")


def two_inputs(request: pb.ModelInferRequest) -> None:
    request.inputs.append(request.inputs[0])


def no_inputs(request: pb.ModelInferRequest) -> None:
    del request.inputs[:]


def few_numbers(request: pb.ModelInferRequest) -> None:
    del request.raw_input_contents[:]
    request.inputs[0].contents.uint_contents.extend([1, 2, 3])


def large_numbers(request: pb.ModelInferRequest) -> None:
    del request.raw_input_contents[:]
    request.inputs[0].contents.uint_contents.extend((PICTURES.ravel().astype(int) + 1).tolist())


def few_files(request: pb.ModelInferRequest) -> None:
    del request.raw_input_contents[:]
    request.inputs[0].datatype = "BYTES"
    request.inputs[0].shape[:] = [2]
    request.inputs[0].contents.bytes_contents.append(b"x")


def classification_as_text(request: pb.ModelInferRequest) -> None:
    output = request.outputs.add(name="logits")
    output.parameters["classification"].string_param = "3"


def the_same_output_twice(request: pb.ModelInferRequest) -> None:
    request.outputs.add(name="logits")
    request.outputs.add(name="logits")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (both_contents, "either its contents"),
        (no_contents, "either its contents"),
        (two_contents, "either its contents"),
        (two_inputs, "has one, 'image'"),
        (no_inputs, "has one, 'image'"),
        (few_numbers, "3 uint_contents"),
        (large_numbers, "to 255"),
        (few_files, "1 bytes_contents"),
        (classification_as_text, "int64_param"),
        (the_same_output_twice, "twice"),
    ],
)
def test_messages_that_no_client_of_others_sends(
    with_grpc: Server, spoil: Spoil, words: str
) -> None:
    request = good_request()
    spoil(request)
    with pytest.raises(grpc.RpcError) as caught:
        infer(grpc_address(with_grpc), request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in caught.value.details()


def test_both_protocols_of_one_process_give_the_same(with_grpc: Server) -> None:
    answer = infer(grpc_address(with_grpc), good_request())
    headers = {"inference-header-content-length": "0"}
    url = f"{with_grpc.url}/v2/models/digits/infer"
    over_http = httpx.post(url, content=PICTURES.tobytes(), headers=headers)
    assert answer.id == "7"
    assert over_http.content.endswith(b"".join(answer.raw_output_contents))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stop_is_clean_also_with_several_workers(
    models: tuple[Path, Weights], weights: Weights, workers: str
) -> None:
    options = ("--models", str(models[0]), "--grpc-port", "0", "--workers", workers)
    with running(*options) as server:
        answer = infer(grpc_address(server), good_request())
        found = np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(-1, 10)
        expected = linear_logits(PICTURES, weights["digits/2"])
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert server.stop(signal.SIGTERM) == 0
    assert "Traceback" not in "".join(server.log)


def test_a_taken_port(models: tuple[Path, Weights]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, printed = run(
            "serve", "--models", str(models[0]), "--port", "0", "--grpc-port", port
        )
    assert_one_clear_line(status, printed, f"127.0.0.1:{port}", "in use", "--grpc-port")


def test_without_the_extra_one_line_says_what_to_install(
    models: tuple[Path, Weights], tmp_path: Path
) -> None:
    (tmp_path / "grpc.py").write_text("raise ImportError('not installed')")
    environment = clean_environment(PYTHONPATH=str(tmp_path))
    arguments = ("serve", "--models", str(models[0]), "--port", "0")
    status, printed = run(*arguments, "--grpc-port", "0", environment=environment)
    assert_one_clear_line(status, printed, "--grpc-port", "pip install 'logitserve[grpc]'")
    with running("--models", str(models[0]), environment=environment) as server:
        assert httpx.get(f"{server.url}/readyz").status_code == 200
