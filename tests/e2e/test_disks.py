"""Nothing that an answer needs depends on a disk."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest

from tests.e2e.metrics import value, wait_until
from tests.e2e.process import Server, clean_environment, running
from tests.e2e.profiles import ADMIN_KEY, ROOT
from tests.tiny_models import png, random_picture

pytestmark = pytest.mark.drill

UNSHARE = ("unshare", "--mount")
FOLDERS = "/tmp /var/tmp /dev/shm"  # noqa: S108 - hidden from the service
DISKS = {
    "of 64 kB": "mount -t tmpfs -o size=64k tmpfs $folder",
    "full": "mount -t tmpfs -o size=64k tmpfs $folder; cat /dev/zero > $folder/full || true",
    "read-only": "mount -t tmpfs -o ro tmpfs $folder",
    "no folder": "mount --bind /dev/null $folder || mount -t tmpfs -o mode=0,ro tmpfs $folder",
}


@contextmanager
def serving(disk: str, *options: str) -> Iterator[Server]:
    """A service whose folders for temporary files are such a disk, and which can write nowhere."""
    if subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("NOT TESTED: this user may not make a mount namespace")
    script = f'for folder in {FOLDERS}; do {DISKS[disk]}; done 2>/dev/null; cd /proc; exec "$@"'
    wrapper = (*UNSHARE, "sh", "-c", script, "sh")
    environment = clean_environment(LOGITSERVE_ADMIN_KEY=ADMIN_KEY)
    folder = ("--models", str(ROOT / "models"))
    with running(*folder, *options, wrapper=wrapper, environment=environment) as server:
        yield server


def predict(server: Server, pictures: int = 1) -> None:
    files = [("file", png(random_picture(seed))) for seed in range(pictures)]
    headers = {"connection": "close"}
    answer = httpx.post(f"{server.url}/predict", files=files, headers=headers, timeout=20)
    assert len(answer.json()["predictions"]) == pictures, answer.text


@pytest.mark.parametrize(("disk", "workers"), list(zip(DISKS, (1, 2, 1, 2), strict=True)))
def test_it_serves(disk: str, workers: int) -> None:
    with serving(disk, "--workers", str(workers)) as server:
        wait_until(lambda: value(server.url, "workers") == workers)
        predict(server, 20)
        large = {"file": bytes(3 * 2**20)}  # a form's part that other servers put into a file
        answer = httpx.post(f"{server.url}/predict", files=large)
        assert answer.status_code == 422, answer.text
        orders = f"{server.url}/v2/repository/models/zero"
        for order in ("unload", "load"):
            key = {"x-api-key": ADMIN_KEY}
            httpx.post(f"{orders}/{order}", timeout=20, headers=key).raise_for_status()
        psutil.Process(server.process.pid).children()[0].kill()
        wait_until(lambda: value(server.url, "worker_exits_total", reason="signal") == 1)
        wait_until(lambda: value(server.url, "workers") == workers)
        for _ in range(5):
            predict(server)
        counted = {"route": "/predict", "model": "digits", "version": "1"}
        assert value(server.url, "requests_total", status="200", **counted) == 6
        assert server.stop() == 0
    assert "Traceback" not in "".join(server.log)
