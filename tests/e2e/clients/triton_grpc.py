"""`tritonclient.grpc`, with raw contents as it sends them, and with typed ones by its messages."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient import grpc
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from tests.e2e.clients.harness import OUTPUTS, Arrays, Facts, run


def ask(address: str, pictures: npt.NDArray[np.uint8], files: list[bytes]) -> tuple[Arrays, Facts]:
    client = grpc.InferenceServerClient(address)
    pixels = grpc.InferInput("image", list(pictures.shape), "UINT8")
    pixels.set_data_from_numpy(pictures)
    encoded = grpc.InferInput("image", [len(files)], "BYTES")
    encoded.set_data_from_numpy(np.array(files, np.object_))
    arrays: Arrays = {}

    def keep(form: str, result: grpc.InferResult) -> None:
        arrays.update({f"{form}/{name}": result.as_numpy(name) for name in OUTPUTS})

    wanted = [grpc.InferRequestedOutput(name) for name in OUTPUTS]
    result = client.infer("digits", [pixels], request_id="raw")
    keep("raw", result)
    keep("raw, named outputs", client.infer("digits", [pixels], outputs=wanted))
    keep("files", client.infer("digits", [encoded], outputs=wanted))
    typed = client._client_stub.ModelInfer(_typed("UINT8", pictures.shape, pictures, files))
    keep("typed", grpc.InferResult(typed))
    typed = client._client_stub.ModelInfer(_typed("BYTES", [len(files)], pictures, files))
    keep("typed files", grpc.InferResult(typed))
    classes = grpc.InferRequestedOutput("probabilities", class_count=3)
    top = client.infer("digits", [pixels], outputs=[classes]).as_numpy("probabilities")
    index = client.get_model_repository_index().models
    model = client.get_model_metadata("digits")
    return arrays, {
        "id": result.get_response().id,
        "top": [[element.decode() for element in row] for row in top],
        "version": client.infer("digits", [pixels], model_version="1").get_response().model_version,
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model ready": client.is_model_ready("digits"),
        "extensions": list(client.get_server_metadata().extensions),
        "versions": list(model.versions),
        "shapes": [list(tensor.shape) for tensor in (*model.inputs, *model.outputs)],
        "index": [f"{entry.name}/{entry.version} {entry.state}" for entry in index],
        "config": client.get_model_config("digits", as_json=True)["config"],
        "statistics": client.get_inference_statistics("digits", as_json=True)["model_stats"],
        "all": len(client.get_inference_statistics().model_stats),
        "errors": _errors(client, pictures),
    }


def _typed(
    datatype: str, shape: Sequence[int], pictures: npt.NDArray[np.uint8], files: list[bytes]
) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name="digits")
    tensor = request.inputs.add(name="image", datatype=datatype, shape=shape)
    if datatype == "UINT8":
        tensor.contents.uint_contents.extend(pictures.ravel().tolist())
    else:
        tensor.contents.bytes_contents.extend(files)
    return request


def _errors(client: grpc.InferenceServerClient, pictures: npt.NDArray[np.uint8]) -> dict[str, str]:
    """What is wrong → code and message."""
    floats, flat = pictures.astype(np.float32), pictures.reshape(len(pictures), -1)
    broken = np.array([b"hello"], np.object_)

    def wanting(name: str, class_count: int = 0) -> dict[str, Any]:
        return {"outputs": [grpc.InferRequestedOutput(name, class_count=class_count)]}

    return {
        "model": _error(client, pictures, model="cats"),
        "version": _error(client, pictures, version="9"),
        "name": _error(client, pictures, name="pixels"),
        "datatype": _error(client, floats, datatype="FP32"),
        "shape": _error(client, flat),
        "bytes": _error(client, pictures, shape=[1, 28, 28, 1]),
        "none": _error(client, pictures, shape=[0, 28, 28, 1]),
        "negative": _error(client, pictures, shape=[-1, 28, 28, 1]),
        "many": _error(client, np.zeros((201, 28, 28, 1), np.uint8)),
        "large": _error(client, np.zeros((2600, 28, 28, 1), np.uint8)),
        "picture": _error(client, broken, datatype="BYTES"),
        "output": _error(client, pictures, **wanting("softmax")),
        "class of a class": _error(client, pictures, **wanting("argmax", 2)),
        "no classes": _error(client, pictures, **wanting("logits", -2)),
    }


def _error(
    client: grpc.InferenceServerClient,
    data: npt.NDArray[Any],
    *,
    model: str = "digits",
    version: str = "",
    name: str = "image",
    datatype: str = "UINT8",
    shape: Sequence[int] | None = None,
    outputs: list[grpc.InferRequestedOutput] | None = None,
) -> str:
    tensor = grpc.InferInput(name, list(data.shape), datatype)
    tensor.set_data_from_numpy(data)
    tensor.set_shape(list(shape or data.shape))
    try:
        client.infer(model, [tensor], model_version=version, outputs=outputs)
    except InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    return "answered"


if __name__ == "__main__":
    run(ask)
