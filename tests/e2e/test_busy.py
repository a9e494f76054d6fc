"""Too busy is 429 in every form, before anything is decoded; probes are answered all the same."""

import select
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.e2e.metrics import preprocessed, wait_until
from tests.e2e.problems import detail_of
from tests.e2e.process import Server
from tests.e2e.profiles import PROBES, SETTINGS, STRICT_BODY_BYTES
from tests.e2e.sockets import connect, request
from tests.forms import FORMS, HTTP_FORMS, RAW, Ask, Form, Reply
from tests.tiny_models import png, random_picture

IMAGE = random_picture(0)
HUGE = png(np.zeros((3000, 3000), np.uint8))
"""Few bytes, and long to decode."""
SECONDS = 20
CLIENTS = 6
"""As many as may connect, and one for questions."""


def assert_the_unlimited_are_answered(server: Server) -> None:
    for path in (*sorted(PROBES), "/metrics"):
        assert server.client.get(path).status_code == 200, path


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_what_finds_the_queue_full_is_not_decoded(strict: Server, form: Form) -> None:
    """It has room for one image; of a request that is answered, all images are decoded."""
    image = HUGE if form.files else IMAGE
    ask = Ask([image] * (1 if not form.many else 4 if form.files else 20))
    before = preprocessed(strict.url)
    replies: list[Reply] = []
    with ThreadPoolExecutor(CLIENTS) as pool:
        wait_until(lambda: full(form, replies, pool.map(form.send, [strict] * 12, [ask] * 12)))
    answered = [reply.status for reply in replies].count(200)
    assert {reply.status for reply in replies} <= {200, 429}
    assert preprocessed(strict.url) - before <= answered * len(ask.images)
    assert_the_unlimited_are_answered(strict)
    assert form.send(strict, Ask([IMAGE])).status == 200


def full(form: Form, replies: list[Reply], more: Iterable[Reply]) -> bool:
    """Whether some were refused, and rightly; `more` are added to the replies."""
    replies += more
    refused = [reply for reply in replies if reply.status == 429]
    for reply in refused:
        detail = detail_of(form, reply)
        for words in ("limit is 1 ", SETTINGS["queue"], "try again later"):
            assert words in detail
        assert not form.over_http or int(reply.headers["retry-after"]) >= 1
    return bool(refused)


@pytest.mark.parametrize("form", HTTP_FORMS, ids=str)
def test_full_memory(strict: Server, form: Form) -> None:
    """An upload that stands still holds nearly all there is, until its client goes."""
    stalling = b"".join(request(RAW, Ask([IMAGE], body=bytes(STRICT_BODY_BYTES))))
    stalling = stalling[: -STRICT_BODY_BYTES // 10]
    other = Ask([IMAGE], body=bytes(STRICT_BODY_BYTES // 2))
    ending = time.monotonic() + SECONDS
    stalled = connect(strict)
    stalled.sendall(stalling)
    try:
        while (reply := form.send(strict, other)).status != 429:
            assert reply.status in {400, 422}  # what stands still was not all read yet
            assert time.monotonic() < ending
            if select.select([stalled], [], [], 0)[0]:
                # It had no room while both were read, or it took too long.
                assert stalled.recv(20).split()[1] in {b"429", b"408"}
                stalled.close()
                stalled = connect(strict)
                stalled.sendall(stalling)
        detail = detail_of(form, reply)
        assert f"limit of {STRICT_BODY_BYTES} bytes" in detail
        assert SETTINGS["buffered"] in detail
        assert int(reply.headers["retry-after"]) >= 1
        assert form.send(strict, Ask([IMAGE])).status == 200
    finally:
        stalled.close()
    wait_until(lambda: form.send(strict, other).status in {400, 422})


def test_the_unlimited_are_answered_when_memory_is_full(strict: Server) -> None:
    with connect(strict) as stalled:
        head, body = request(RAW, Ask([IMAGE], body=bytes(STRICT_BODY_BYTES)))
        stalled.sendall(head + body[:-5])
        assert_the_unlimited_are_answered(strict)
