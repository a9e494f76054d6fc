"""What the access log costs: `python -m benchmarks.seeing`.

CPU time of the server for a request, without the log and with it, in turn. Read the ratios.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks import forms, load
from benchmarks.servers import OURS_PATHS, ROOT

KINDS = {
    "off": (),
    "text": ("--access-log", "true", "--log-format", "text"),
    "json": ("--access-log", "true", "--log-format", "json"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of each load")
    asked = parser.parse_args()
    requests = forms.ROWS[0].requests("/predict")
    environment = {"PYTHONPATH": os.pathsep.join(map(str, OURS_PATHS))}
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        file = load.write(Path(folder) / "raw", requests)
        for _ in range(asked.rounds):
            for kind, options in KINDS.items():
                port = load.free_port()
                command = [sys.executable, "-m", "logitserve", "serve", "--port", str(port)]
                command += ["--models", str(ROOT / "models"), "--default-model", forms.DEFAULT]
                with load.running(
                    [*command, *options], port, requests[0], environment=environment
                ) as server:
                    load.put_load(server, file, connections=32, seconds=1)
                    measured = load.put_load(server, file, connections=32, seconds=asked.seconds)
                    found[kind].append(measured.cpu_us)
    off = statistics.median(found["off"])
    for kind, times in found.items():
        median = statistics.median(times)
        print(f"access log {kind}: {median:.1f} µs of CPU a request, {median / off:.3f} of without")


if __name__ == "__main__":
    main()
