"""Who sends the requests of a load test."""

import os
import random
from pathlib import Path
from typing import Final

from locust import FastHttpUser, task

from tests.load.requests import MIX, prepared

REQUESTS: Final = prepared()
_WEIGHTS: Final = [share.percent for share in MIX]


def _key() -> str:
    if file := os.environ.get("LOGITSERVE_API_KEY_FILE"):
        return Path(file).read_text().split()[0]
    return os.environ.get("LOGITSERVE_API_KEY", "")


KEY: Final = _key()


class Caller(FastHttpUser):
    """Sends the mix, one request after the other on one connection, and checks each answer."""

    abstract = True
    network_timeout = 30.0
    connection_timeout = 5.0

    def on_start(self) -> None:
        """Bring the key of the service, if it has one."""
        self.key = {"Authorization": f"Bearer {KEY}"} if KEY else {}

    @task
    def ask(self) -> None:
        """Send one of the prepared requests."""
        (share,) = random.choices(MIX, _WEIGHTS)  # noqa: S311 - no secret
        request = random.choice(REQUESTS[share])  # noqa: S311
        with self.client.post(
            request.path,
            data=request.body,
            headers={**request.headers, **self.key},
            name=request.kind,
            catch_response=True,
        ) as answer:
            if answer.status_code != 200:
                answer.failure(f"{answer.status_code}: {(answer.text or '')[:200]}")
            elif wrong := request.wrong(answer.content):
                answer.failure(wrong)
