"""What a deadline costs a request, in each of three ways: `python benchmarks/deadlines.py`."""

import asyncio
import time
from collections.abc import Callable

import uvloop

from logitserve_service.http.deadlines import Deadlines

CALLS = 100_000
FAR = 60


def microseconds(call: Callable[[], object]) -> float:
    """CPU time of a call."""
    begun = time.thread_time()
    for _ in range(CALLS):
        call()
    return (time.thread_time() - begun) / CALLS * 1e6


async def main() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(FAR * 1000)

    def kept() -> None:
        deadlines.end(deadlines.begin(None, time.perf_counter()))

    def timer() -> None:
        loop.call_later(FAR, print).cancel()

    async def scope() -> None:
        async with asyncio.timeout(FAR):  # noqa: ASYNC100 - what it costs is the question
            pass

    begun = time.thread_time()
    for _ in range(CALLS):
        await scope()
    timeout = (time.thread_time() - begun) / CALLS * 1e6
    print(f"kept in a dict, one timer for all: {microseconds(kept):.1f} µs")
    print(f"a timer for each: {microseconds(timer):.1f} µs")
    print(f"asyncio.timeout: {timeout:.1f} µs")


if __name__ == "__main__":
    uvloop.run(main())
