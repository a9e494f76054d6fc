"""Hours of use in minutes: `python -m benchmarks.soak --minutes 10`, or `make soak`.

Starts the service, finds out what it can, and loads it at 70 % of that with a mix of everything
that clients send: single pictures, batches, JSON, binary tensors, broken ones, and clients that go
away. Prints errors, latency and how fast memory grows; draws it into `results/soak.png`.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import numpy as np
import psutil

from benchmarks.soak_requests import MIX, Request, mixed, prepare
from tests.e2e.process import running

HERE = Path(__file__).parent
LOAD = 0.7
CONNECTIONS = 8
CAPACITY_SECONDS = 10
SETTLING_SECONDS = 120
SAMPLE_SECONDS = 1.0
ANSWER_SECONDS = 30
GOAL = 1.0
"""MiB per minute."""
MIB = 2**20


@dataclass
class Seen:
    """What clients and the watcher saw."""

    seconds: list[float] = field(default_factory=list)
    """From sending to the last byte, of each request that was answered."""
    statuses: Counter[int] = field(default_factory=Counter)
    left: int = 0
    """Clients that went away on purpose."""
    errors: list[str] = field(default_factory=list)
    resident: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    """Process → seconds since the begin, and MiB."""


class Client:
    """One connection that is kept alive, and opened again after leaving."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: Request, seen: Seen) -> None:
        """Send it and wait for its answer, or go away where the request says so."""
        begun = time.perf_counter()
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request.wire[: request.sent])
        await writer.drain()
        if request.leaves:
            self.close()
            seen.left += 1
            return
        try:
            status, closing = await asyncio.wait_for(_read_answer(reader), ANSWER_SECONDS)
        except (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError) as error:
            seen.errors.append(f"{request.name}: {error!r}")
            self.close()
            return
        seen.seconds.append(time.perf_counter() - begun)
        seen.statuses[status] += 1
        if status not in request.expected:
            seen.errors.append(f"{request.name}: {status}")
        if closing:
            self.close()

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, _, length = head.partition(b"content-length: ")
    await reader.readexactly(int(length.partition(b"\r\n")[0]))
    return int(head.split(b" ", 2)[1]), b"connection: close" in head


async def _flat_out(port: int, seconds: float) -> float:
    """Requests per second that the mix reaches when each client asks again at once."""
    seen = Seen()
    end = time.perf_counter() + seconds

    async def keep_asking(seed: int) -> None:
        client = Client(port)
        for request in mixed(seed):
            if time.perf_counter() > end:
                break
            await client.ask(request, seen)
        client.close()

    begun = time.perf_counter()
    await asyncio.gather(*(keep_asking(seed) for seed in range(CONNECTIONS)))
    return (len(seen.seconds) + seen.left) / (time.perf_counter() - begun)


async def _soak(port: int, pid: int, rate: float, seconds: float) -> Seen:
    """Send at a rate, at random moments, and sample memory meanwhile."""
    seen = Seen()
    begun = time.perf_counter()
    finished = asyncio.Event()

    async def keep_asking(seed: int) -> None:
        client, pauses = Client(port), random.Random(seed)
        due = begun
        for request in mixed(1000 + seed):
            due += pauses.expovariate(rate / CONNECTIONS)
            if due > begun + seconds:
                break
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await client.ask(request, seen)
        client.close()

    async def watch() -> None:
        service = psutil.Process(pid)
        while not finished.is_set():
            now = time.perf_counter() - begun
            for process in (service, *service.children(recursive=True)):
                resident = process.memory_info().rss / MIB
                seen.resident.setdefault(process.pid, []).append((now, resident))
            await asyncio.sleep(SAMPLE_SECONDS)

    watcher = asyncio.create_task(watch())
    await asyncio.gather(*(keep_asking(seed) for seed in range(CONNECTIONS)))
    finished.set()
    await watcher
    return seen


def slope(samples: list[tuple[float, float]], settling: float) -> float:
    """MiB per minute, by linear regression over what came after settling."""
    times, sizes = np.array([each for each in samples if each[0] >= settling]).T
    return float(np.polyfit(times / 60, sizes, 1)[0])


def draw(seen: Seen, settling: float, file: Path) -> None:
    """Memory of each process over time, with its regression."""
    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for number, samples in enumerate(seen.resident.values()):
        times, sizes = np.array(samples).T
        grows = slope(samples, settling)
        axes.plot(times / 60, sizes, label=f"process {number}: {grows:+.2f} MiB/min")
    axes.axvspan(0, settling / 60, color="0.93", label="settling, not counted")
    axes.set(xlabel="minutes", ylabel="resident MiB", ylim=(0, None))
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(file, dpi=110)


def report(seen: Seen, rate: float, capacity: float, settling: float) -> bool:
    """Print it; whether the goal is reached."""
    milliseconds = np.percentile(seen.seconds, (50, 99)) * 1000
    statuses = ", ".join(f"{count} × {status}" for status, count in sorted(seen.statuses.items()))
    print(f"capacity {capacity:.0f} requests/s, load {rate:.0f} ({LOAD:.0%})")
    print(f"answers: {statuses}; {seen.left} clients went away")
    print(f"p50 {milliseconds[0]:.1f} ms, p99 {milliseconds[1]:.1f} ms")
    slopes = []
    for pid, samples in seen.resident.items():
        slopes.append(slope(samples, settling))
        first = next(size for at, size in samples if at >= settling)
        print(
            f"process {pid}: {samples[0][1]:.1f} MiB at the begin, {first:.1f} settled, "
            f"{samples[-1][1]:.1f} at the end, slope {slopes[-1]:+.2f} MiB/min"
        )
    print(f"errors: {len(seen.errors)} {Counter(seen.errors).most_common(5) or ''}")
    return not seen.errors and max(slopes) < GOAL


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--chart", type=Path, default=HERE / "results" / "soak.png")
    asked = parser.parse_args()
    seconds = asked.minutes * 60
    settling = min(SETTLING_SECONDS, seconds / 2)
    prepare()
    models = HERE.parent / "models"
    with running("--models", str(models), "--workers", str(asked.workers)) as server:
        port = int(server.url.rpartition(":")[2])
        capacity = asyncio.run(_flat_out(port, CAPACITY_SECONDS))
        rate = LOAD * capacity
        print(f"{len(MIX)} kinds of requests for {asked.minutes:g} minutes …", flush=True)
        seen = asyncio.run(_soak(port, server.process.pid, rate, seconds))
    draw(seen, settling, asked.chart)
    return 0 if report(seen, rate, capacity, settling) else 1


if __name__ == "__main__":
    sys.exit(main())
