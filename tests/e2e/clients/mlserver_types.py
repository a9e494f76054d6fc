"""MLServer's own request and response types and codecs, over httpx."""

import httpx
import numpy as np
import numpy.typing as npt
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import (
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataServerResponse,
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    RequestInput,
    RequestOutput,
)

from tests.e2e.clients.harness import OUTPUTS, Arrays, Facts, run


def ask(address: str, pictures: npt.NDArray[np.uint8], files: list[bytes]) -> tuple[Arrays, Facts]:
    arrays: Arrays = {}
    with httpx.Client(base_url=address) as client:

        def infer(form: str, tensor: RequestInput, outputs: list[RequestOutput] | None) -> None:
            request = InferenceRequest(id=form, inputs=[tensor], outputs=outputs)
            answer = client.post("/v2/models/digits/infer", content=request.model_dump_json())
            answer.raise_for_status()
            response = InferenceResponse.model_validate_json(answer.content)
            assert response.id == form
            for output in response.outputs:
                arrays[f"{form}/{output.name}"] = NumpyCodec.decode_output(output)

        wanted = [RequestOutput(name=name) for name in OUTPUTS]
        pixels = NumpyCodec.encode_input("image", pictures)
        infer("numpy", pixels, wanted)
        infer("numpy, all outputs", pixels, None)
        encoded = Base64Codec.encode_input("image", files, use_bytes=False)
        encoded.shape = type(encoded.shape)([len(files)])
        infer("base64", encoded, wanted)
        index = client.post(
            "/v2/repository/index", content=RepositoryIndexRequest().model_dump_json()
        )
        return arrays, {
            "server": MetadataServerResponse.model_validate(client.get("/v2").json()).name,
            "model": MetadataModelResponse.model_validate(
                client.get("/v2/models/digits").json()
            ).platform,
            "index": len(RepositoryIndexResponse.model_validate(index.json()).root),
        }


if __name__ == "__main__":
    run(ask)
