"""Signals, from the first instant of the process on."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest

from tests import tiny_models
from tests.e2e.metrics import wait_until
from tests.e2e.process import clean_environment, command, interruptible, running

pytestmark = pytest.mark.drill

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
AS_FIRST = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    tiny_models.publish(tmp_path / "models")
    return tmp_path / "models"


def started(*options: str, wrapper: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*wrapper, *interruptible(command("serve", "--port", "0", *options))],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def catches(pid: int, number: signal.Signals) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (mask,) = (line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return bool(int(mask, 16) >> number - 1 & 1)


@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize("is_first", [False, True])
def test_a_stop_before_the_imports(models: Path, number: signal.Signals, *, is_first: bool) -> None:
    if (
        is_first
        and subprocess.run([*AS_FIRST, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("NOT TESTED: this user may not make a PID namespace")
    with started("--models", str(models), wrapper=AS_FIRST if is_first else ()) as process:
        pid = process.pid
        if is_first:
            wait_until(lambda: bool(psutil.Process(process.pid).children()))
            pid = psutil.Process(process.pid).children()[0].pid
        wait_until(lambda: all(catches(pid, each) for each in STOPS))
        assert "pydantic_core" not in Path(f"/proc/{pid}/maps").read_text()
        os.kill(pid, number)
        assert process.communicate(timeout=20)[0] == ""
        assert process.returncode == 0


@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_while_models_load(models: Path, workers: int, number: signal.Signals) -> None:
    tiny_models.make_slow(models / "tiny/1/model.onnx", tiny_models.ENDLESS)
    with started("--models", str(models), "--workers", str(workers)) as process:
        parent = psutil.Process(process.pid)
        wait_until(lambda: len(parent.children()) == workers)
        (loading, *_) = parent.children()
        wait_until(lambda: loading.cpu_times().user > 0.5)
        process.send_signal(number)
        assert process.communicate(timeout=20)[0] == ""
        assert process.returncode == 0
        assert not loading.is_running()


def test_hangup_reads_everything_again_and_others_are_ignored(models: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("old-key\n")
    options = ("--api-key-file", str(keys), "--watch-seconds", "0", "--workers", "2")
    with running("--models", str(models), *options) as server:
        keys.write_text("new-key\n")
        tiny_models.publish(models, version="2")
        server.process.send_signal(signal.SIGHUP)

        def version() -> str:
            headers = {"x-api-key": "new-key", "connection": "close"}
            answer = httpx.get(f"{server.url}/models/tiny", headers=headers)
            return str(answer.json().get("version"))

        wait_until(lambda: [version() for _ in range(8)] == ["2"] * 8)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            server.process.send_signal(number)
            for worker in psutil.Process(server.process.pid).children():
                worker.send_signal(number)
            wait_until(lambda number=number: f"{number.name} is ignored" in "".join(server.log))  # type: ignore[misc]
        assert version() == "2"
        assert server.stop(signal.SIGQUIT) == 0
    log = "".join(server.log)
    assert "SIGHUP: the certificate, keys and models are read again" in log
    assert "has exited" not in log


def test_a_quit_loses_nothing(models: Path) -> None:
    shutil.copytree(models / "tiny", models / "digits")
    with running("--models", str(models), "--linger-seconds", "0.1") as server:
        httpx.get(f"{server.url}/readyz").raise_for_status()
        for worker in psutil.Process(server.process.pid).children():
            worker.send_signal(signal.SIGQUIT)  # as a terminal sends it to all
        assert server.stop(signal.SIGQUIT) == 0
    assert "has exited" not in "".join(server.log)
