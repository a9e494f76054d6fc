"""The queue before a model, driven on a real event loop with a real network."""

import asyncio
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from logitserve.inference.errors import NonFiniteLogitsError
from logitserve.inference.predictor import Predictor
from logitserve.inference.runtime import open_session
from logitserve_service.errors import QueueFullError
from logitserve_service.execution.batch import Answer
from logitserve_service.execution.batcher import IN_PLACE_SECONDS, MAX_BATCH, Batcher
from tests.service.gated import GatedPredictor, busy, in_a_thread, picture
from tests.tiny_models import SPEC, card_for, linear_graph

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("threaded", [False, True])
async def test_each_item_gets_its_own_answer(predictor: Predictor, *, threaded: bool) -> None:
    batcher = Batcher(predictor, max_queue=1000)
    if threaded:
        in_a_thread(batcher)
    rng = np.random.default_rng(0)
    items = [
        rng.integers(0, 256, (int(n), *SPEC.shape), dtype=np.uint8) for n in rng.integers(1, 9, 60)
    ]
    answers = await asyncio.gather(*[batcher.submit(images) for images in items])
    for images, answer in zip(items, answers, strict=True):
        expected = predictor.predict(images)
        np.testing.assert_allclose(answer.predictions.logits, expected.logits, atol=1e-5)
        np.testing.assert_array_equal(answer.predictions.argmax, expected.argmax)
        assert answer.batch_size <= MAX_BATCH
    assert max(answer.batch_size for answer in answers) > 8


async def test_a_lone_picture_runs_alone_and_at_once(gated: GatedPredictor) -> None:
    batcher = Batcher(gated, max_queue=10)
    gated.batches.clear()
    for seed in range(3):
        answer = await batcher.submit(picture(seed))
        assert answer.batch_size == 1
    assert gated.batches == [1, 1, 1]


async def test_what_arrives_during_a_run_is_the_next_batch(gated: GatedPredictor) -> None:
    batcher = in_a_thread(Batcher(gated, max_queue=1000))
    gated.batches.clear()
    first = await busy(batcher, gated)
    later = [batcher.submit(picture(seed)) for seed in range(MAX_BATCH + 5)]
    gated.gate.set()
    await asyncio.gather(first, *later)
    assert gated.batches == [1, MAX_BATCH, 5]


async def test_a_long_run_does_not_block_the_loop(gated: GatedPredictor) -> None:
    batcher = in_a_thread(Batcher(gated, max_queue=10))
    first = await busy(batcher, gated)
    assert not first.done()  # and yet the loop runs this test
    gated.gate.set()
    await first


async def test_who_went_away_is_passed_over_and_hurts_nobody(gated: GatedPredictor) -> None:
    batcher = in_a_thread(Batcher(gated, max_queue=1000))
    gated.batches.clear()
    first = await busy(batcher, gated)
    replies = [batcher.submit(picture(seed)) for seed in range(1, 5)]
    replies[1].cancel()
    gated.gate.set()
    await first
    for seed in (1, 3, 4):
        answer = await replies[seed - 1]
        expected = gated.predict(picture(seed))
        np.testing.assert_allclose(answer.predictions.logits, expected.logits, atol=1e-5)
    assert gated.batches[:2] == [1, 3]


async def test_who_goes_away_during_the_run_hurts_nobody(gated: GatedPredictor) -> None:
    batcher = in_a_thread(Batcher(gated, max_queue=1000))
    first = await busy(batcher, gated)
    first.cancel()
    gated.gate.set()
    answer = await batcher.submit(picture(7))
    np.testing.assert_allclose(
        answer.predictions.logits, gated.predict(picture(7)).logits, atol=1e-5
    )


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(
    gated: GatedPredictor,
) -> None:
    batcher = in_a_thread(Batcher(gated, max_queue=10))
    first = await busy(batcher, gated)
    waiting = [batcher.submit(picture(seed)) for seed in range(10)]
    with pytest.raises(QueueFullError, match="limit is 10 pictures") as caught:
        batcher.submit(picture(11))
    assert caught.value.retry_after >= 1
    batcher._seconds_per_picture, batcher._pace = 3.0, 1.0
    with pytest.raises(QueueFullError) as caught:
        batcher.submit(picture(11))
    assert caught.value.retry_after == 30
    gated.gate.set()
    await asyncio.gather(first, *waiting)
    await batcher.submit(picture(11))  # there is room again


async def test_a_picture_without_an_answer_fails_alone(tmp_path: Path) -> None:
    # log(0) for the black picture only
    matrix = np.ones((784, 10), np.float32)
    graph = linear_graph(SPEC, matrix)
    graph.graph.node[-1].output[0] = "sums"
    graph.graph.node.append(helper.make_node("Log", ["sums"], ["logits"]))
    path = tmp_path / "model.onnx"
    onnx.save(graph, path)
    predictor = Predictor(card_for(matrix), open_session(path))
    batcher = Batcher(predictor, max_queue=100)
    black = np.zeros((1, *SPEC.shape), np.uint8)
    outcomes = await asyncio.gather(
        batcher.submit(picture(1)),
        batcher.submit(black),
        batcher.submit(picture(2)),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], NonFiniteLogitsError)
    for seed, outcome in ((1, outcomes[0]), (2, outcomes[2])):
        assert isinstance(outcome, Answer)
        np.testing.assert_allclose(
            outcome.predictions.logits, predictor.predict(picture(seed)).logits, atol=1e-5
        )


async def test_a_failing_run_fails_those_who_wait_for_it_and_no_others(
    gated: GatedPredictor,
) -> None:
    batcher = Batcher(gated, max_queue=100)
    wrong = np.zeros((1, 5, 5, 1), np.uint8)
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        await batcher.submit(wrong)
    assert (await batcher.submit(picture(1))).batch_size == 1


async def test_the_expected_time_follows_what_is_measured(predictor: Predictor) -> None:
    batcher = Batcher(predictor, max_queue=100)
    batcher._pace = 1000.0
    assert batcher._expected_seconds(1) > IN_PLACE_SECONDS
    for seed in range(300):
        await batcher.submit(picture(seed))
    assert batcher._expected_seconds(1) < IN_PLACE_SECONDS
