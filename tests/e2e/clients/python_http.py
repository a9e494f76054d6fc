"""What people use from Python: `python_http.py LIBRARY ADDRESS FILE…` prints an answer a line."""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path


def with_requests(address: str, files: list[Path]) -> Iterator[str]:
    import requests

    for path in files:
        with path.open("rb") as opened:
            answer = requests.post(f"{address}/predict", files={"file": opened}, timeout=20)
            yield str(answer.text)


def with_httpx(address: str, files: list[Path]) -> Iterator[str]:
    import httpx

    with httpx.Client(base_url=address) as client:
        for path in files:
            yield client.post("/predict", files={"file": path.open("rb")}).text


def with_aiohttp(address: str, files: list[Path]) -> Iterator[str]:
    """All at once, in chunks, compressed, after `100 Continue`."""
    import aiohttp

    async def ask() -> list[str]:
        async with aiohttp.ClientSession() as session:

            async def post(path: Path) -> str:
                sent = session.post(
                    f"{address}/predict",
                    data=path.open("rb"),
                    headers={"Content-Type": "image/png"},
                    compress="gzip",
                    expect100=True,
                )
                async with sent as response:
                    return str(await response.text())

            return await asyncio.gather(*map(post, files))

    yield from asyncio.run(ask())


def with_generated(address: str, files: list[Path]) -> Iterator[str]:
    """The package that openapi-python-client made of /openapi.json, in the working folder."""
    from generated import Client
    from generated.api.predict import predict
    from generated.models import PredictFilesBody, Predictions
    from generated.types import File

    for path in files:
        body = PredictFilesBody(file=[File(path.open("rb"), path.name, "image/png")])
        answer = predict.sync(client=Client(address), body=body)
        assert isinstance(answer, Predictions)
        yield json.dumps(answer.to_dict())


if __name__ == "__main__":
    library, address, *paths = sys.argv[1:]
    for answer in globals()[f"with_{library}"](address, [Path(path) for path in paths]):
        print(answer)  # noqa: T201
