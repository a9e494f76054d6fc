"""The Open Inference Protocol over gRPC: one server, Triton's client, and our own messages."""

import os
from pathlib import Path

from tests.e2e.conftest import VERSIONS, Weights
from tests.e2e.process import Server, clean_environment, run, running
from tests.e2e.profiles import MAX_BODY_BYTES, SETTINGS
from tests.e2e.test_protocol_clients import (
    ask,
    assert_right,
    assert_told_as_triton_does,
    assert_top_three,
)
from tests.e2e.test_start import assert_one_clear_line
from tests.e2e.test_v2 import PICTURES
from tests.forms import GRPC_PIXELS, V2_RAW, Ask


def test_tritonclient_grpc(clients: str, server: Server, weights: Weights, tmp_path: Path) -> None:
    answers, facts = ask(clients, "triton_grpc", server.grpc_address, tmp_path)
    assert_right(answers, weights, forms=5)
    assert_top_three(facts["top"], weights)
    assert (facts["id"], facts["version"]) == ("raw", "1")
    assert (facts["live"], facts["ready"], facts["model ready"]) == (True, True, True)
    assert facts["extensions"] == [
        *("binary_tensor_data", "classification", "model_configuration", "statistics")
    ]
    assert_told_as_triton_does(facts)
    assert facts["versions"] == ["1", "2"]
    assert facts["shapes"] == [[-1, 28, 28, 1], [-1, 10], [-1, 10], [-1]]
    assert facts["index"][0] == "adopted/1 READY"
    assert len(facts["index"]) == len(VERSIONS)
    expected = {
        "model": ("NOT_FOUND", "'cats'"),
        "version": ("NOT_FOUND", "'9'"),
        "name": ("INVALID_ARGUMENT", "'pixels'"),
        "datatype": ("INVALID_ARGUMENT", "'FP32'"),
        "shape": ("INVALID_ARGUMENT", "[5, 784]"),
        "bytes": ("INVALID_ARGUMENT", "3920 bytes of data"),
        "none": ("INVALID_ARGUMENT", "at least 1"),
        "negative": ("INVALID_ARGUMENT", "at least 1"),
        "many": ("INVALID_ARGUMENT", SETTINGS["images"]),
        "large": ("RESOURCE_EXHAUSTED", f"{MAX_BODY_BYTES}"),
        "picture": ("INVALID_ARGUMENT", "not a"),
        "output": ("INVALID_ARGUMENT", "'softmax'"),
        "class of a class": ("INVALID_ARGUMENT", "'argmax'"),
        "no classes": ("INVALID_ARGUMENT", "at least 1"),
    }
    assert set(facts["errors"]) == set(expected)
    for case, (code, words) in expected.items():
        assert facts["errors"][case].startswith(f"StatusCode.{code} "), (case, facts["errors"])
        assert words in facts["errors"][case]


def test_both_protocols_of_one_process_give_the_same(server: Server) -> None:
    ask = Ask(list(PICTURES))
    contents = GRPC_PIXELS.send(server, ask).message.raw_output_contents
    assert V2_RAW.send(server, ask).body.endswith(b"".join(contents))


def test_without_the_extra_one_line_says_what_to_install(
    models: tuple[Path, Weights], tmp_path: Path
) -> None:
    (tmp_path / "grpc.py").write_text("raise ImportError('not installed')")
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    environment = clean_environment(PYTHONPATH=path)
    arguments = ("serve", "--models", str(models[0]), "--port", "0")
    status, printed = run(*arguments, "--grpc-port", "0", environment=environment)
    assert_one_clear_line(status, printed, "--grpc-port", "pip install 'logitserve[grpc]'")
    with running("--models", str(models[0]), environment=environment) as server:
        assert server.client.get("/readyz").status_code == 200
