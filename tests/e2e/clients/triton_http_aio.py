"""`tritonclient.http.aio`, with asyncio: several requests at once over one client."""

import asyncio

import numpy as np
import numpy.typing as npt
from tritonclient.http import aio

from tests.e2e.clients.harness import OUTPUTS, Arrays, Facts, run


async def _ask(address: str, pictures: npt.NDArray[np.uint8]) -> tuple[Arrays, Facts]:
    async def infer(form: str, *, binary: bool) -> Arrays:
        tensor = aio.InferInput("image", list(pictures.shape), "UINT8")
        tensor.set_data_from_numpy(pictures, binary_data=binary)
        outputs = [aio.InferRequestedOutput(name, binary_data=binary) for name in OUTPUTS]
        result = await client.infer("digits", [tensor], outputs=outputs)
        return {f"{form}/{name}": result.as_numpy(name) for name in OUTPUTS}

    async with aio.InferenceServerClient(address.removeprefix("http://")) as client:
        answers = await asyncio.gather(
            infer("json", binary=False),
            *[infer(f"binary {number}", binary=True) for number in range(5)],
        )
        facts = {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model ready": await client.is_model_ready("digits"),
        }
    return {key: value for answer in answers for key, value in answer.items()}, facts


def ask(address: str, pictures: npt.NDArray[np.uint8], _: list[bytes]) -> tuple[Arrays, Facts]:
    return asyncio.run(_ask(address, pictures))


if __name__ == "__main__":
    run(ask)
