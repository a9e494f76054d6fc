"""The ceiling of the stack: uvicorn and an application whose answer is fixed."""

import json
from typing import Any

BODY = json.dumps(
    {"argmax": 7, "probabilities": dict.fromkeys("0123456789", 0.012345678901234567)}
).encode()
HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(BODY)).encode()),
]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})
