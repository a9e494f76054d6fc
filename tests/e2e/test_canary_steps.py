"""The script of docs/rollout.md that lets a canary grow by steps, and ends it when it is worse."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from logitserve.client import Client
from logitserve.inference.rollout import read
from tests import tiny_models
from tests.background import repeated
from tests.e2e.process import Server, clean_environment
from tests.e2e.test_receipts import keeping
from tests.tiny_models import random_picture

ROOT = Path(__file__).parents[2]
(SCRIPT,) = re.findall(
    r"```sh\n(not_worse.*?)```", (ROOT / "docs/rollout.md").read_text(), re.DOTALL
)
FASTER = {"1 5 25": "30 60 90", "sleep 3600": "sleep 4"}
PICTURES = [random_picture(seed) for seed in range(10)]


@contextmanager
def asking(server: Server, *, is_right: bool) -> Iterator[None]:
    """Ask all the time, and send labels by which version 2 is right or wrong."""
    with Client(server.url) as client:

        def ask() -> None:
            labels: list[dict[str, Any]] = []
            for answer in client.predict(PICTURES, model="digits"):
                assert answer.id is not None
                is_wrong = answer.version == "2" and not is_right
                label = "none" if is_wrong else answer.label
                labels.append({"id": answer.id, "label": label})
            client.feedback(labels)

        with repeated(ask):
            yield


@pytest.mark.parametrize(
    ("is_right", "alerts", "status", "live"),
    [(True, "true", 0, "2"), (False, "true", 1, "1"), (True, "echo firing", 1, "1"),
     (True, "false", 1, "1")],
    ids=["as good", "wrong", "an alert fires", "nobody can tell"],
)  # fmt: skip
def test_it_grows_while_it_is_not_worse(
    tmp_path: Path, *, is_right: bool, alerts: str, status: int, live: str
) -> None:
    for version in ("1", "2"):
        fields: dict[str, Any] = {"seed": int(version), "metrics": {"accuracy": 0.99}}
        tiny_models.publish(tmp_path / "models", name="digits", version=version, **fields)
    promtool = tmp_path / "promtool"  # tests/deploy asks a real Prometheus
    promtool.write_text(f"#!/bin/sh\n{alerts}\n")
    promtool.chmod(0o755)
    script = SCRIPT
    for usual, faster in FASTER.items():
        assert usual in script
        script = script.replace(usual, faster)
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"

    def run(script: str) -> tuple[int, str]:
        environment = clean_environment(PATH=path, PROMETHEUS="http://x", LOGITSERVE_URL=server.url)
        done = subprocess.run(
            ["sh", "-ec", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    options = ("--watch-seconds", "0.1")
    with keeping(tmp_path / "models", tmp_path / "store.db", *options) as server:
        assert run("logitserve models promote digits 1")[0] == 0
        with asking(server, is_right=is_right):
            ended, said = run(script)
    assert ended == status, said
    rollout = read(tmp_path / "models/digits")
    assert (rollout.live, rollout.canary) == (live, None)
    shares = [change.canary.percent for change in rollout.history if change.canary is not None]
    steps = [30, 60, 90]
    assert shares == (steps if status == 0 else steps[: len(shares)]), said
