"""Memory that goes back to the system, and how much the service may use."""

import subprocess
import sys
from pathlib import Path

import pytest

from logitserve_service.config.settings import Settings
from logitserve_service.server import memory

PROGRAM = """
import sys
from pathlib import Path
from logitserve_service.server import memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if sys.argv[1] == "given back":
    memory.give_back()
bytes(20_000_000)
before = resident()
kept = []
for _ in range(100):
    large = [bytearray(1_000_000)]
    kept.append(bytearray(50_000))  # lies behind it, where the heap would have to be trimmed
    large.append(bytearray(1_000_000))
    kept.append(large)
for large in kept[1::2]:
    large.clear()
print(resident() - before)
"""


def grown(how: str) -> int:
    """Bytes that stay when 200 MB were needed for a while, among 5 MB that are kept."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_what_is_freed_goes_back_to_the_system() -> None:
    assert grown("given back") < 20_000_000
    assert grown("kept") > 100_000_000  # else this proves nothing


MIB = 2**20
MACHINE = "MemTotal: 4096 kB\nMemAvailable: 3072 kB\n"


def tree(root: Path, files: dict[str, str]) -> None:
    for name, text in {"proc/meminfo": MACHINE, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def group(folder: str, most: str, used: int, cache: int, kills: int) -> dict[str, str]:
    """A cgroup of version 2."""
    return {
        f"cgroup/{folder}memory.max": f"{most}\n",
        f"cgroup/{folder}memory.current": f"{used}\n",
        f"cgroup/{folder}memory.stat": f"anon 1\ninactive_file {cache}\n",
        f"cgroup/{folder}memory.events": f"low 0\noom 9\noom_kill {kills}\n",
    }


OLD = {
    "cgroup/memory/memory.limit_in_bytes": f"{2 * MIB}\n",
    "cgroup/memory/memory.usage_in_bytes": f"{MIB}\n",
    "cgroup/memory/memory.stat": f"inactive_file 7\ntotal_inactive_file {MIB // 2}\n",
    "cgroup/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
}
NO_LIMIT = {"cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}


@pytest.mark.parametrize(
    ("files", "limit", "available", "kills"),
    [
        ({}, 4 * MIB, 3 * MIB, 0),
        # Version 2 in a container, and on a host where a parent has less.
        ({"proc/self/cgroup": "0::/\n", **group("", str(2 * MIB), MIB, 9, 2)}, 2 * MIB, MIB + 9, 2),
        (
            {
                "proc/self/cgroup": "0::/system.slice/logitserve.service\n",
                **group("system.slice/", str(MIB), MIB // 2, 0, 8),
                **group("system.slice/logitserve.service/", "max", 7, 0, 1),
            },
            MIB,
            MIB // 2,
            1,
        ),
        # Version 1 in a container: the path is the host's.
        ({"proc/self/cgroup": "4:memory:/docker/7f\n0::/\n", **OLD}, 2 * MIB, 3 * MIB // 2, 3),
        ({"proc/self/cgroup": "4:memory:/\n", **OLD, **NO_LIMIT}, 4 * MIB, 3 * MIB, 3),
    ],
)
def test_what_may_be_used(
    tmp_path: Path, files: dict[str, str], limit: int, available: int, kills: int
) -> None:
    tree(tmp_path, files)
    places = tmp_path / "cgroup", tmp_path / "proc"
    assert memory.limit(*places) == limit
    assert memory.available(*places) == available
    assert memory.oom_kills(*places) == kills


def test_of_this_machine() -> None:
    assert 2**20 < memory.available() < memory.limit() < 2**50


def test_a_model_file_fits_twice_into_what_is_left() -> None:
    assert memory.too_large(10_000, Settings()) == ""
    reason = memory.too_large(2**31, Settings())
    assert "LOGITSERVE_MAX_MODEL_BYTES" in reason
    size = memory.available() // 2000
    assert memory.too_large(size, Settings(workers=2)) == ""
    assert memory.too_large(size, Settings(workers=2000)) != ""
    assert memory.too_large(2**31, Settings(max_model_bytes=2**31)) == ""
    assert "2147483647 (setting" in memory.too_large(2**31, Settings(max_model_bytes=2**31 - 1))
