"""`tritonclient.http`, with threads."""

import base64

import numpy as np
import numpy.typing as npt
from tritonclient import http
from tritonclient.utils import InferenceServerException

from tests.e2e.clients.harness import OUTPUTS, Arrays, Facts, run


def ask(address: str, pictures: npt.NDArray[np.uint8], files: list[bytes]) -> tuple[Arrays, Facts]:
    client = http.InferenceServerClient(address.removeprefix("http://"))
    pixels = http.InferInput("image", list(pictures.shape), "UINT8")
    encoded = http.InferInput("image", [len(files)], "BYTES")
    arrays: Arrays = {}

    def infer(form: str, tensor: http.InferInput, *, binary: bool | None) -> http.InferResult:
        outputs = [http.InferRequestedOutput(name, binary_data=binary) for name in OUTPUTS]
        result = client.infer(
            "digits", [tensor], outputs=None if binary is None else outputs, request_id=form
        )
        arrays.update({f"{form}/{name}": result.as_numpy(name) for name in OUTPUTS})
        return result

    pixels.set_data_from_numpy(pictures, binary_data=False)
    infer("json in, json out", pixels, binary=False)
    infer("json in, binary out", pixels, binary=True)
    pixels.set_data_from_numpy(pictures, binary_data=True)
    infer("binary in, json out", pixels, binary=False)
    infer("binary in, binary out", pixels, binary=True)
    result = infer("binary in, all out", pixels, binary=None)
    encoded.set_data_from_numpy(np.array(files, np.object_), binary_data=True)
    infer("files in, binary out", encoded, binary=True)
    texts = np.array([base64.b64encode(data) for data in files], np.object_)
    encoded.set_data_from_numpy(texts, binary_data=False)
    infer("base64 in, json out", encoded, binary=False)
    classes = http.InferRequestedOutput("probabilities", class_count=3)
    top = client.infer("digits", [pixels], outputs=[classes]).as_numpy("probabilities")
    for algorithm in ("gzip", "deflate"):
        packed = client.infer("digits", [pixels], request_compression_algorithm=algorithm)
        arrays.update({f"{algorithm}/{name}": packed.as_numpy(name) for name in OUTPUTS})
    old = client.infer("digits", [pixels], model_version="1").get_response()
    return arrays, {
        "id": result.get_response()["id"],
        "top": [[element.decode() for element in row] for row in top],
        "version": old["model_version"],
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model ready": client.is_model_ready("digits"),
        "version ready": client.is_model_ready("digits", "1"),
        "no model ready": client.is_model_ready("cats"),
        "server": client.get_server_metadata(),
        "model": client.get_model_metadata("digits"),
        "index": client.get_model_repository_index(),
        "config": client.get_model_config("digits"),
        "statistics": client.get_inference_statistics("digits")["model_stats"],
        "all": len(client.get_inference_statistics()["model_stats"]),
        "error": _error(client, pixels),
    }


def _error(client: http.InferenceServerClient, pixels: http.InferInput) -> str:
    try:
        client.infer("digits", [pixels], outputs=[http.InferRequestedOutput("softmax")])
    except InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    return "none"


if __name__ == "__main__":
    run(ask)
