"""`kserve.InferenceRESTClient`, with both of its protocols."""

import asyncio

import httpx
import numpy as np
import numpy.typing as npt
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from tests.e2e.clients.harness import OUTPUTS, Arrays, Facts, run


async def _ask(address: str, pictures: npt.NDArray[np.uint8]) -> tuple[Arrays, Facts]:
    arrays: Arrays = {}
    client = InferenceRESTClient(RESTConfig(protocol="v2"))

    async def infer(form: str, *, binary: bool) -> None:
        tensor = InferInput("image", list(pictures.shape), "UINT8")
        tensor.set_data_from_numpy(pictures, binary_data=binary)
        outputs = [RequestedOutput(name, {"binary_data": binary}) for name in OUTPUTS]
        request = InferRequest("digits", [tensor], request_id=form, request_outputs=outputs)
        result = await client.infer(address, request, model_name="digits")
        arrays.update({f"{form}/{found.name}": found.as_numpy() for found in result.outputs})
        assert result.id == form

    await infer("json", binary=False)
    await infer("binary", binary=True)
    facts = {
        "live": await client.is_server_live(address),
        "ready": await client.is_server_ready(address),
        "model ready": await client.is_model_ready(address, "digits"),
        "no model ready": await client.is_model_ready(address, "cats"),
        "error": await _error(client, address),
    }
    await client.close()
    first = InferenceRESTClient(RESTConfig(protocol="v1"))
    answer = await first.infer(address, {"instances": pictures.tolist()}, model_name="digits")
    states = {
        "v1 live": await first.is_server_live(address),
        "v1 model ready": await first.is_model_ready(address, "digits"),
    }
    await first.close()
    return arrays, {**facts, **states, "predictions": answer["predictions"]}


async def _error(client: InferenceRESTClient, address: str) -> int:
    try:
        await client.infer(address, {"inputs": []}, model_name="digits")
    except httpx.HTTPStatusError as error:
        return error.response.status_code
    return 0


def ask(address: str, pictures: npt.NDArray[np.uint8], _: list[bytes]) -> tuple[Arrays, Facts]:
    return asyncio.run(_ask(address, pictures))


if __name__ == "__main__":
    run(ask)
