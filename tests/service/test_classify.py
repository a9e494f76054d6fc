"""The use case without HTTP: chunks, threads, clients that leave."""

import asyncio
import os
import threading
from typing import Any

import numpy as np
import pytest

from logitserve.inference import preprocessing
from logitserve.inference.errors import TooManyPixelsError, UnreadableImageError
from logitserve.inference.predictor import Predictor
from logitserve_service.errors import ClientGoneError
from logitserve_service.execution.batcher import MAX_BATCH, Batcher
from logitserve_service.execution.classify import (
    DECODING_NICENESS,
    IN_PLACE_BYTES,
    IN_PLACE_PIXELS,
    Classifier,
    Picture,
)
from tests.service.gated import GatedPredictor, busy, in_a_thread, picture
from tests.tiny_models import png, random_picture

pytestmark = pytest.mark.anyio


async def nobody_leaves() -> None:
    await asyncio.Event().wait()


@pytest.fixture
def classifier() -> Classifier:
    return Classifier(max_pixels=1_000_000)


@pytest.mark.parametrize("count", [1, 2, MAX_BATCH, MAX_BATCH + 1, 3 * MAX_BATCH + 7])
async def test_any_number_of_pictures_comes_back_in_order(
    classifier: Classifier, predictor: Predictor, count: int
) -> None:
    images = np.stack([random_picture(seed) for seed in range(count)])
    pictures: list[Picture] = [
        png(image) if index % 2 else image for index, image in enumerate(images)
    ]
    batcher = Batcher(predictor, max_queue=1000)
    predictions, timing = await classifier.classify(batcher, pictures, nobody_leaves)
    np.testing.assert_allclose(predictions.logits, predictor.run(images), atol=1e-5)
    assert timing.decode > 0
    assert timing.inference > 0


@pytest.mark.parametrize("count", [1, MAX_BATCH, MAX_BATCH + 1, 2 * MAX_BATCH + 7])
async def test_a_tensor_is_asked_in_chunks_and_not_fitted(
    classifier: Classifier, predictor: Predictor, count: int
) -> None:
    images = np.stack([random_picture(seed) for seed in range(count)])
    images.flags.writeable = False  # as the bytes of a request are
    batcher = Batcher(predictor, max_queue=MAX_BATCH)
    predictions, timing = await classifier.classify_tensor(batcher, images, nobody_leaves)
    np.testing.assert_allclose(predictions.logits, predictor.run(images), atol=1e-5)
    assert timing.decode == 0
    assert timing.inference > 0


async def test_a_request_of_many_leaves_room_for_others(
    classifier: Classifier, gated: GatedPredictor
) -> None:
    batcher = in_a_thread(Batcher(gated, max_queue=MAX_BATCH + 1))
    pictures: list[Picture] = [random_picture(seed) for seed in range(4 * MAX_BATCH)]
    gated.gate.clear()
    gated.entered.clear()
    bulk = asyncio.ensure_future(classifier.classify(batcher, pictures, nobody_leaves))
    await asyncio.to_thread(gated.entered.wait, 30)
    gated.batches.clear()
    lone = batcher.submit(picture(1))
    gated.gate.set()
    await lone
    assert gated.batches == [MAX_BATCH, 1]  # it waited for one chunk and not for four
    predictions, _ = await bulk
    assert len(predictions) == 4 * MAX_BATCH


@pytest.mark.parametrize("side", [28, int(IN_PLACE_PIXELS**0.5) * 2])
async def test_a_broken_picture_has_a_number_only_among_others(
    classifier: Classifier, predictor: Predictor, side: int
) -> None:
    whole = png(np.zeros((side, side), np.uint8))
    broken = whole[:-20]
    batcher = Batcher(predictor, max_queue=1000)
    requests: list[tuple[list[Picture], int | None]] = [
        ([broken], None),
        ([whole, broken], 1),
        ([*[whole] * MAX_BATCH, broken], MAX_BATCH),
    ]
    for pictures, number in requests:
        with pytest.raises(UnreadableImageError) as caught:
            await classifier.classify(batcher, pictures, nobody_leaves)
        assert caught.value.picture == number


async def test_a_small_picture_in_a_long_file_is_decoded_away_from_the_loop(
    classifier: Classifier, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    niceness = []

    def decoded(*arguments: Any, **options: Any) -> preprocessing.Pixels:
        threads.append(threading.current_thread())
        niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return found(*arguments, **options)

    found = preprocessing.decode
    monkeypatch.setattr(preprocessing, "decode", decoded)
    picture = png(np.zeros((28, 27), np.uint8))
    batcher = Batcher(predictor, max_queue=1000)
    for data in (picture, picture.ljust(IN_PLACE_BYTES), picture.ljust(IN_PLACE_BYTES + 1)):
        await classifier.classify(batcher, [data], nobody_leaves)
    main = threading.main_thread()
    assert [thread is main for thread in threads] == [True, True, False]
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness == [usual, usual, max(usual, DECODING_NICENESS)]


async def test_a_large_picture_is_decoded_away_from_the_loop(
    classifier: Classifier, predictor: Predictor
) -> None:
    side = int(IN_PLACE_PIXELS**0.5) * 2
    large = png(np.zeros((side, side), np.uint8))
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticker = asyncio.ensure_future(tick())
    await classifier.classify(Batcher(predictor, max_queue=10), [large], nobody_leaves)
    ticker.cancel()
    assert ticks > 2


async def test_the_limit_of_pixels_holds_in_the_loop_and_in_the_thread(
    predictor: Predictor,
) -> None:
    batcher = Batcher(predictor, max_queue=10)
    for side in (50, 300):
        data = png(np.zeros((side, side), np.uint8))
        exact, tight = Classifier(max_pixels=side * side), Classifier(max_pixels=side * side - 1)
        assert len((await exact.classify(batcher, [data], nobody_leaves))[0]) == 1
        with pytest.raises(TooManyPixelsError):
            await tight.classify(batcher, [data], nobody_leaves)


async def test_a_broken_picture_is_named(classifier: Classifier, predictor: Predictor) -> None:
    pictures: list[Picture] = [png(random_picture(seed)) for seed in range(MAX_BATCH + 3)]
    pictures[MAX_BATCH + 1] = b"broken"
    with pytest.raises(UnreadableImageError) as caught:
        await classifier.classify(Batcher(predictor, max_queue=100), pictures, nobody_leaves)
    assert caught.value.picture == MAX_BATCH + 1


async def test_who_leaves_while_waiting_withdraws(
    classifier: Classifier, gated: GatedPredictor
) -> None:
    batcher = in_a_thread(Batcher(gated, max_queue=1000))
    first = await busy(batcher, gated)
    ahead = [batcher.submit(picture(seed)) for seed in range(MAX_BATCH + 1)]
    left = asyncio.Event()

    async def leaves() -> None:
        await left.wait()

    leaving = asyncio.ensure_future(classifier.classify(batcher, [random_picture(0)], leaves))
    await asyncio.sleep(0)
    gated.batches.clear()
    left.set()
    with pytest.raises(ClientGoneError):
        await leaving
    gated.gate.set()
    await asyncio.gather(first, *ahead)
    assert sum(gated.batches) == 1 + MAX_BATCH + 1  # the one who left is not among them


async def test_who_stays_in_a_long_queue_is_answered(
    classifier: Classifier, gated: GatedPredictor
) -> None:
    batcher = in_a_thread(Batcher(gated, max_queue=1000))
    first = await busy(batcher, gated)
    ahead = [batcher.submit(picture(seed)) for seed in range(MAX_BATCH + 1)]
    staying = asyncio.ensure_future(
        classifier.classify(batcher, [random_picture(5)], nobody_leaves)
    )
    await asyncio.sleep(0)
    gated.gate.set()
    predictions, _ = await staying
    np.testing.assert_allclose(predictions.logits, gated.run(picture(5)), atol=1e-5)
    await asyncio.gather(first, *ahead)
