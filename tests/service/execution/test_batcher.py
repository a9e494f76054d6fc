"""The queue before a model, on a real event loop with a real network."""

import asyncio
import time
from typing import Any

import numpy as np
import pytest

from logitserve.inference.errors import ImageError, TooManyPixelsError
from logitserve.inference.predictor import Predictor
from logitserve.inference.rendering import PLAIN, OutputOptions, render
from logitserve_service.errors import QueueFullError
from logitserve_service.execution.job import MAX_BATCH, Image
from logitserve_service.execution.preprocessing import (
    IN_PLACE_BYTES,
    IN_PLACE_PIXELS,
    MOST_PIXELS_READ,
)
from tests.service.execution.images import BROKEN, BROKEN_LARGE, LARGE, SMALL
from tests.service.gated import GatedPredictor, answer, ask, batcher_of, busy, picture, result_of
from tests.tiny_models import SPEC, linear_logits, png, random_picture, weights

pytestmark = pytest.mark.anyio

WEIGHTS = weights(SPEC, 10, 0)


def assert_result(outcome: Any, images: Any) -> None:
    """Logits as numpy computes them."""
    logits = result_of(outcome).predictions.logits
    np.testing.assert_allclose(logits, linear_logits(np.asarray(images), WEIGHTS), atol=1e-4)


@pytest.mark.parametrize("threaded", [False, True])
async def test_every_request_gets_its_own_result(gated: GatedPredictor, *, threaded: bool) -> None:
    batcher = batcher_of(gated, threaded=threaded)
    files = [[png(random_picture(seed))] for seed in range(20)]
    tensors = [np.stack([random_picture(100 + seed)] * (1 + seed % 3)) for seed in range(10)]
    requests: list[Any] = [*files[:9], *tensors, *files[9:]]
    outcomes = await asyncio.gather(*[ask(batcher, inputs) for inputs in requests])
    assert gated.batches == [20 + sum(map(len, tensors))]
    for inputs, outcome in zip(requests, outcomes, strict=True):
        tensor = inputs if isinstance(inputs, np.ndarray) else [gated.decode(inputs[0])]
        assert_result(outcome, tensor)
        result = result_of(outcome)
        assert result.rendered == render(gated.card, result.predictions, PLAIN)
        assert (result.timing.preprocessing > 0) == (tensor is not inputs)


async def test_a_single_request_does_not_wait(gated: GatedPredictor) -> None:
    batcher = batcher_of(gated)
    for seed in range(3):
        await answer(batcher, picture(seed))
    assert gated.batches == [1, 1, 1]


async def test_a_batch_is_what_arrived_during_the_run_before(gated: GatedPredictor) -> None:
    batcher = batcher_of(gated, threaded=True)
    first = await busy(batcher, gated)
    later = [ask(batcher, picture(seed)) for seed in range(MAX_BATCH + 5)]
    assert not first.done()
    assert batcher.waiting == MAX_BATCH + 5
    gated.gate.set()
    await asyncio.gather(first, *later)
    assert gated.batches == [1, MAX_BATCH, 5]


async def test_the_event_loop_has_its_turn_between_images_of_many_pixels(
    gated: GatedPredictor,
) -> None:
    """Requests of one such image share the batches; one of many is read in a thread."""
    batcher = batcher_of(gated)
    side = int(IN_PLACE_PIXELS**0.5)
    each = 1 + MOST_PIXELS_READ // side**2
    image = png(np.tile(np.arange(side, dtype=np.uint8), (side, 1)))
    requests = [[image] for _ in range(2 * each + 1)]
    outcomes = await asyncio.gather(*[ask(batcher, inputs) for inputs in requests])
    assert gated.batches == [each, each, 1]
    outcomes.append(await ask(batcher, [image] * (each + 1)))
    assert gated.batches[3:] == [each + 1]
    for outcome in outcomes:
        assert_result(outcome, [gated.decode(image)] * len(result_of(outcome).predictions.logits))
    assert batcher.waiting == 0


@pytest.mark.parametrize("count", [2, MAX_BATCH, MAX_BATCH + 1, 200])
@pytest.mark.parametrize("form", ["tensor", "mixed", "large"])
async def test_the_images_of_a_request_keep_their_order(
    gated: GatedPredictor, count: int, form: str
) -> None:
    images = np.stack([random_picture(seed) for seed in range(count)])
    images.flags.writeable = False  # as the bytes of a request are
    inputs: Any = images
    if form != "tensor":
        inputs = [png(image) if index % 2 else image for index, image in enumerate(images)]
    if form == "large":
        inputs[1] = inputs[1].ljust(IN_PLACE_BYTES + 1)
    batcher = batcher_of(gated)
    result = await answer(batcher, inputs)
    assert len(result.predictions) == len(result.rendered or ()) == count
    assert_result(result, images)
    assert max(gated.batches) <= MAX_BATCH
    assert (result.timing.preprocessing > 0) == (form != "tensor")


async def test_times_of_a_large_image_add_up_to_what_passed(gated: GatedPredictor) -> None:
    batcher = batcher_of(gated)
    begun = time.perf_counter()
    result = await answer(batcher, [png(random_picture(1)).ljust(IN_PLACE_BYTES + 1)])
    elapsed = time.perf_counter() - begun
    timing = result.timing
    assert timing.preprocessing > 0  # which is no time in the queue
    assert timing.queue + timing.preprocessing + timing.inference <= elapsed
    assert timing.queue > 0


async def test_a_request_of_many_images_leaves_room_for_others(gated: GatedPredictor) -> None:
    batcher = batcher_of(gated, threaded=True, max_queue=MAX_BATCH + 1)
    first = await busy(batcher, gated)
    many = ask(batcher, np.stack([random_picture(seed) for seed in range(4 * MAX_BATCH)]))
    single = ask(batcher, picture(1))
    gated.gate.set()
    await single
    assert gated.batches[:3] == [1, MAX_BATCH, 1]
    assert len(result_of(await many).predictions) == 4 * MAX_BATCH
    await first


async def test_a_full_queue_refuses_before_it_decodes(gated: GatedPredictor) -> None:
    batcher = batcher_of(gated, threaded=True, max_queue=10)
    first = await busy(batcher, gated)
    waiting = [ask(batcher, picture(seed)) for seed in range(10)]
    for inputs in ([b"broken"], [b"broken" * IN_PLACE_BYTES], picture(11)):
        with pytest.raises(QueueFullError, match="limit is 10 images") as caught:
            ask(batcher, inputs)
        assert caught.value.retry_after >= 1
    with pytest.raises(QueueFullError):
        await batcher.preprocess(b"broken")
    batcher._seconds_per_image, batcher._pace = 3.0, 1.0
    with pytest.raises(QueueFullError) as caught:
        ask(batcher, picture(11))
    assert caught.value.retry_after == 30
    gated.gate.set()
    await asyncio.gather(first, *waiting)
    await answer(batcher, picture(11))


@pytest.mark.parametrize("inputs", [picture(5), [BROKEN], [BROKEN_LARGE]])
async def test_a_cancelled_job_is_passed_over(gated: GatedPredictor, inputs: Any) -> None:
    batcher = batcher_of(gated, threaded=True)
    first = await busy(batcher, gated)
    ask(batcher, inputs).cancel()
    others = [ask(batcher, picture(seed)) for seed in range(MAX_BATCH)]
    first.cancel()  # during its run
    gated.gate.set()
    for seed, outcome in enumerate(await asyncio.gather(*others)):
        assert_result(outcome, picture(seed))
    assert gated.batches == [1, MAX_BATCH]
    assert batcher.waiting == 0


@pytest.mark.parametrize(
    ("inputs", "number"),
    [
        ([BROKEN], None),
        ([BROKEN_LARGE], None),
        ([SMALL, BROKEN], 1),
        ([LARGE, BROKEN_LARGE], 1),
        ([*[SMALL] * 70, BROKEN, *[SMALL] * 29], 70),
        ([*[SMALL] * 70, BROKEN_LARGE, *[SMALL] * 29], 70),
        ([*[SMALL] * 65, np.zeros((2, 2, 7), np.uint8)], 65),
    ],
)
async def test_a_broken_image_fails_alone(
    predictor: Predictor, inputs: list[Image], number: int | None
) -> None:
    batcher = batcher_of(predictor)
    before, failed, after = await asyncio.gather(
        ask(batcher, picture(1)), ask(batcher, inputs), ask(batcher, picture(2))
    )
    assert isinstance(failed, ImageError)
    assert failed.image == number
    assert_result(before, picture(1))
    assert_result(after, picture(2))
    assert batcher.waiting == 0


@pytest.mark.parametrize("side", [50, 300])
async def test_the_limit_of_pixels(predictor: Predictor, side: int) -> None:
    image = np.zeros((side, side), np.uint8)
    for inputs in ([png(image)], [image]):
        await answer(batcher_of(predictor, max_pixels=side * side), inputs)
        with pytest.raises(TooManyPixelsError):
            await answer(batcher_of(predictor, max_pixels=side * side - 1), inputs)


async def test_requests_with_options_share_a_batch(gated: GatedPredictor) -> None:
    batcher = batcher_of(gated)
    choices = [PLAIN, OutputOptions(top_k=3), None, OutputOptions(calibrated=False)]
    asked = [(np.stack([random_picture(i)] * (1 + i % 2)), choices[i % 4]) for i in range(12)]
    outcomes = await asyncio.gather(*[ask(batcher, *each) for each in asked])
    assert gated.batches == [18]
    for (images, options), outcome in zip(asked, outcomes, strict=True):
        result = result_of(outcome)
        assert_result(result, images)
        expected = options and render(gated.card, result.predictions, options)
        assert result.rendered == expected
