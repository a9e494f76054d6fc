"""Calls that repeat, also after one that failed."""

import logging

import anyio
import anyio.lowlevel
import pytest

from logitserve_service.periodically import periodically

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("is_async", [False, True])
async def test_calls_repeat_until_the_end(
    caplog: pytest.LogCaptureFixture, *, is_async: bool
) -> None:
    calls = 0
    fourth = anyio.Event()

    def call() -> None:
        nonlocal calls
        calls += 1
        if calls in {1, 2}:
            message = "the first"
            raise ValueError(message)
        if calls == 4:
            fourth.set()

    async def call_later() -> None:
        await anyio.lowlevel.checkpoint()
        call()

    with caplog.at_level(logging.WARNING):
        async with periodically(0.001, call_later if is_async else call):
            with anyio.fail_after(10):
                await fourth.wait()
        ended = calls
        await anyio.sleep(0.02)
    assert calls == ended
    assert [record.exc_info is not None for record in caplog.records] == [True, False]
    assert "failed 2 times" in caplog.text
