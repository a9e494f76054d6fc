import subprocess
import sys

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
