"""Deadlines end the right requests, at their time, and nothing else."""

import asyncio
import time

import pytest

from logitserve_service.errors import DeadlineError, UnreadableRequestError
from logitserve_service.execution.batcher import Batcher
from logitserve_service.http.deadlines import Deadlines
from tests.service.gated import GatedPredictor, busy, in_a_thread, picture

pytestmark = pytest.mark.anyio

FOREVER = 30


async def request(deadlines: Deadlines, asked: bytes | None, seconds: float) -> str:
    """What a request does that takes so many seconds: 'done', or the error of its deadline."""
    task = deadlines.begin(asked, time.perf_counter())
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        error = deadlines.error_of(task)
        if error is None:
            raise
        await asyncio.sleep(0)  # the task goes on as if nothing had been
        return str(error)
    finally:
        deadlines.end(task)
    return "done"


async def test_each_request_has_its_own_deadline() -> None:
    deadlines = Deadlines(200)
    outcomes = await asyncio.gather(
        request(deadlines, None, 0),
        request(deadlines, None, FOREVER),
        request(deadlines, b"20", FOREVER),
        request(deadlines, b"20", 0),
        request(deadlines, b"9999999999", FOREVER),  # never raises it
        request(deadlines, None, 0.01),
    )
    late = "the request could not be answered within its {} ms"
    expected = ["done", late.format(200), late.format(20), "done", late.format(200), "done"]
    assert list(outcomes) == expected
    assert not deadlines._ends
    assert not deadlines._own
    assert not deadlines._expired


async def test_later_requests_expire_later() -> None:
    deadlines = Deadlines(100)
    begun = time.perf_counter()
    seconds = []

    async def one(delay: float) -> None:
        await asyncio.sleep(delay)
        own = time.perf_counter()
        await request(deadlines, None, FOREVER)
        seconds.append(time.perf_counter() - own)

    await asyncio.gather(*(one(delay) for delay in (0, 0.05, 0.09, 0.25)))
    assert min(seconds) >= 0.095
    assert time.perf_counter() - begun < FOREVER / 2


async def test_a_cancellation_of_others_is_none_of_ours() -> None:
    deadlines = Deadlines(60_000)
    task = asyncio.create_task(request(deadlines, b"50000", FOREVER))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not deadlines._own


@pytest.mark.parametrize(
    "asked", [b"", b"0", b"-1", b"1.5", b"1e3", b"soon", b" 5", b"5 ", b"1" * 40, b"\xb2", b"+5"]
)
async def test_what_is_no_number_of_milliseconds(asked: bytes) -> None:
    with pytest.raises(UnreadableRequestError, match="whole number of milliseconds"):
        Deadlines(1000).begin(asked, 0)


async def test_pictures_past_their_deadline_leave_the_queue(gated: GatedPredictor) -> None:
    batcher = in_a_thread(Batcher(gated, max_queue=10))
    gated.batches.clear()
    first = await busy(batcher, gated)
    deadlines = Deadlines(60_000)

    async def ask() -> object:
        task = deadlines.begin(b"20", time.perf_counter())
        try:
            return await batcher.submit(picture(1))
        except asyncio.CancelledError:
            raise deadlines.error_of(task) or AssertionError from None

    with pytest.raises(DeadlineError):
        await asyncio.create_task(ask())
    last = batcher.submit(picture(2))
    gated.gate.set()
    await asyncio.gather(first, last)
    assert gated.batches == [1, 1]


async def test_who_is_late_at_the_beginning_is_ended_at_once() -> None:
    deadlines = Deadlines(50)
    ahead = asyncio.ensure_future(request(deadlines, None, 0.01))
    begun = time.perf_counter()

    async def late() -> str:
        task = deadlines.begin(None, begun - FOREVER)
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:
            return str(deadlines.error_of(task))
        finally:
            deadlines.end(task)
        return "done"

    assert "within its 50 ms" in await asyncio.create_task(late())
    assert time.perf_counter() - begun < FOREVER / 2
    assert await ahead == "done"
    assert not deadlines._ends
    assert not deadlines._expired


async def test_what_is_no_task_can_be_watched() -> None:
    class Watched:
        def __init__(self) -> None:
            self.times = 0
            self.cancelled = asyncio.Event()

        def cancel(self) -> bool:
            self.times += 1
            self.cancelled.set()
            return False

    deadlines = Deadlines(20)
    late, done = Watched(), Watched()
    for watched in (late, done):
        deadlines.watch(watched, time.perf_counter())
    deadlines.end(done)
    await late.cancelled.wait()
    await asyncio.sleep(0.05)
    assert (late.times, done.times) == (1, 0)
    assert not deadlines._ends
    assert not deadlines._expired
