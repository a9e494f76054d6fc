"""The memory of images that are decoded at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitserve_service.errors import ImageTooLargeError
from logitserve_service.execution.memory import DecodedBytes

LIMIT = 100


@given(st.lists(st.integers(0, LIMIT), max_size=30))
def test_no_more_than_the_limit_is_ever_reserved(sizes: list[int]) -> None:
    memory = DecodedBytes(LIMIT)
    lock = threading.Lock()
    used, most, done = 0, 0, []

    def use(size: int) -> None:
        nonlocal used, most
        with memory.reserved(size):
            with lock:
                used += size
                most = max(most, used)
            with lock:
                used -= size
                done.append(size)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(use, sizes))
    assert most <= LIMIT
    assert sorted(done) == sorted(sizes)


def test_what_cannot_ever_fit_is_refused() -> None:
    memory = DecodedBytes(LIMIT)
    with pytest.raises(ImageTooLargeError, match="101 bytes of memory, and the limit is 100"):
        memory.reserved(LIMIT + 1).__enter__()
    with memory.reserved(LIMIT):
        pass


def test_a_large_image_is_not_overtaken() -> None:
    memory = DecodedBytes(LIMIT)
    order: list[int] = []

    def use(size: int) -> None:
        with memory.reserved(size):
            order.append(size)

    with memory.reserved(10):
        threads = [threading.Thread(target=use, args=[size]) for size in (LIMIT, 1, 2)]
        threads[0].start()
        while not memory._turn.locked():
            pass
        for thread in threads[1:]:
            thread.start()
        assert order == []
    for thread in threads:
        thread.join()
    assert order[0] == LIMIT
    assert set(order[1:]) == {1, 2}
