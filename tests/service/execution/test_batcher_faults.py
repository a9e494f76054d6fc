"""What goes wrong in a batch stays with the request that it belongs to; threads; the count."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from logitserve.inference import preprocessing
from logitserve.inference.card import Fit, InputSpec
from logitserve.inference.errors import ImageError, NonFiniteLogitsError
from logitserve.inference.predictor import Predictor
from logitserve.inference.rendering import PLAIN, OutputOptions
from logitserve.inference.runtime import open_session
from logitserve_service.execution.batcher import FITTING_SECONDS, IN_PLACE_SECONDS
from logitserve_service.execution.job import Job
from logitserve_service.execution.preprocessing import IN_PLACE_BYTES, NICENESS, Decoders, read
from logitserve_service.execution.result import Result
from tests.logitserve.inference.test_handwriting import REFERENCE
from tests.service.execution.images import BROKEN, BROKEN_LARGE, LARGE, LARGE_SIDE, SMALL
from tests.service.gated import (
    GatedPredictor,
    answer,
    ask,
    batcher_of,
    picture,
    result_of,
    until_empty,
)
from tests.tiny_models import SPEC, card_for, linear_graph, png, random_picture, weights

pytestmark = pytest.mark.anyio

BLACK = np.zeros(SPEC.shape, np.uint8)


@pytest.fixture
def logarithmic(tmp_path: Path) -> Predictor:
    """A model whose logits are finite for all images but the black one."""
    matrix = np.ones((784, 10), np.float32)
    graph = linear_graph(SPEC, matrix)
    graph.graph.node[-1].output[0] = "sums"
    graph.graph.node.append(helper.make_node("Log", ["sums"], ["logits"]))
    path = tmp_path / "model.onnx"
    onnx.save(graph, path)
    return Predictor(card_for(matrix), open_session(path))


@pytest.mark.parametrize(
    ("count", "black", "rows"), [(1, [0], ()), (3, [1], (1,)), (70, [65, 69], (65, 69))]
)
async def test_logits_that_are_not_finite(
    logarithmic: Predictor, count: int, black: list[int], rows: tuple[int, ...]
) -> None:
    images = np.stack([random_picture(seed) for seed in range(count)])
    images[black] = 0
    batcher = batcher_of(logarithmic)
    before, failed, after = await asyncio.gather(
        ask(batcher, picture(1)), ask(batcher, images), ask(batcher, picture(2))
    )
    assert isinstance(failed, NonFiniteLogitsError)
    assert failed.rows == rows
    for seed, outcome in ((1, before), (2, after)):
        expected = logarithmic.predict(picture(seed)).logits
        np.testing.assert_allclose(result_of(outcome).predictions.logits, expected, atol=1e-5)


@pytest.mark.parametrize("others", [0, 2])
@pytest.mark.parametrize("threaded", [False, True])
async def test_a_failing_run_fails_its_requests_alone(
    predictor: Predictor, others: int, *, threaded: bool
) -> None:
    batcher = batcher_of(predictor, threaded=threaded)
    wrong = np.zeros((1, 5, 5, 1), np.uint8)
    requests = [ask(batcher, wrong), *[ask(batcher, picture(seed)) for seed in range(others)]]
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(*requests)
        assert all(isinstance(outcome, Exception) for outcome in outcomes)
        await answer(batcher, picture(1))
    assert batcher.waiting == 0


@pytest.mark.parametrize("threaded", [False, True])
async def test_a_failing_receiver_holds_up_no_other_request(
    predictor: Predictor, caplog: pytest.LogCaptureFixture, *, threaded: bool
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("cannot be written")

    batcher = batcher_of(predictor, threaded=threaded)
    for inputs in (picture(1), [SMALL], [BROKEN], [LARGE]):
        batcher.submit(inputs, PLAIN, fail)
        async with asyncio.timeout(10):
            await answer(batcher, picture(2))
    await until_empty(batcher)
    assert "cannot be written" in caplog.text


INPUTS: list[Any] = [
    picture(1),
    np.stack([random_picture(seed) for seed in range(70)]),
    [SMALL],
    [SMALL, BLACK],
    [png(random_picture(1))] * 65,
    [LARGE, SMALL],
    [np.zeros((LARGE_SIDE, LARGE_SIDE, 3), np.uint8)],
    [BROKEN],
    [BROKEN_LARGE],
    [*[SMALL] * 66, BROKEN],
    [*[SMALL] * 66, BROKEN_LARGE],
]
OPTIONS = [PLAIN, None, OutputOptions(top_k=2), OutputOptions(calibrated=False)]
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(range(len(INPUTS))),
        st.sampled_from(OPTIONS),
        st.sampled_from([None, None, "now", "later"]),
    ),
    max_size=12,
)


async def outcomes_of(predictor: Predictor, requests: list[Any], *, threaded: bool) -> None:
    batcher = batcher_of(predictor, threaded=threaded)
    futures = []
    for index, options, cancelled in requests:
        future = ask(batcher, INPUTS[index], options)
        futures.append((future, INPUTS[index], options))
        if cancelled == "now":
            future.cancel()
        elif cancelled == "later":
            asyncio.get_running_loop().call_later(0.001, future.cancel)
    images = ask(batcher, [SMALL])
    _, pending = await asyncio.wait([images, *[future for future, *_ in futures]], timeout=20)
    assert not pending
    await until_empty(batcher)
    for future, inputs, options in futures:
        if future.cancelled():
            continue
        outcome = future.result()
        if any(image in (BROKEN, BROKEN_LARGE) for image in inputs if isinstance(image, bytes)):
            assert isinstance(outcome, ImageError)
        else:
            result = result_of(outcome)
            assert len(result.predictions) == len(inputs)
            assert (result.rendered is None) == (options is None)


@pytest.mark.parametrize("threaded", [False, True])
def test_nothing_waits_after_any_mix_of_requests(model_file: Path, *, threaded: bool) -> None:
    predictor = Predictor.load(model_file)

    @settings(max_examples=30)
    @given(REQUESTS)
    def check(requests: list[Any]) -> None:
        asyncio.run(outcomes_of(predictor, requests, threaded=threaded))

    check()


@pytest.mark.parametrize(
    ("image", "away"),
    [
        (SMALL, False),
        (SMALL.ljust(IN_PLACE_BYTES), False),
        (SMALL.ljust(IN_PLACE_BYTES + 1), True),
        (LARGE, True),
        (BLACK, False),
        (np.zeros((LARGE_SIDE, LARGE_SIDE), np.uint8), True),
        (np.zeros((2 * LARGE_SIDE, LARGE_SIDE, 4), np.uint8), True),
    ],
)
async def test_large_images_are_decoded_in_threads_that_give_way(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, image: Any, *, away: bool
) -> None:
    decoded: list[tuple[bool, int]] = []

    def recording(function: Any) -> Any:
        def recorded(*arguments: Any) -> Any:
            samples = function(*arguments)  # raises where it is too large for the event loop
            thread = threading.get_native_id()
            on_loop = threading.current_thread() is threading.main_thread()
            decoded.append((on_loop, os.getpriority(os.PRIO_PROCESS, thread)))
            return samples

        return recorded

    monkeypatch.setattr("logitserve_service.execution.batch.read", recording(read))
    monkeypatch.setattr(Decoders, "fit", recording(Decoders.fit))
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    await answer(batcher_of(predictor), [image])
    assert decoded == [(not away, max(usual, NICENESS) if away else usual)]


async def test_the_loop_goes_on_while_a_large_image_is_decoded(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    fit = Decoders.fit

    def held(*arguments: Any) -> Any:
        assert gate.wait(30)
        return fit(*arguments)

    monkeypatch.setattr(Decoders, "fit", held)
    batcher = batcher_of(predictor)
    large = ask(batcher, [LARGE])
    await answer(batcher, picture(1))
    assert batcher.waiting == 1
    gate.set()
    await large


@pytest.fixture
def of_digits(tmp_path: Path) -> Predictor:
    spec = InputSpec(height=28, width=28, channels=1, fit=Fit.DIGIT)
    matrix = weights(spec, 10, seed=0)
    path = tmp_path / "digits.onnx"
    onnx.save(linear_graph(spec, matrix), path)
    # Not by `load`: its golden is noise, which is no digit.
    return Predictor(card_for(matrix, spec=spec), open_session(path))


async def test_digits_are_fitted_and_tensors_are_not(
    of_digits: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[bool] = []
    run = of_digits.run

    def recorded(images: preprocessing.Pixels) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return run(images)

    batcher = batcher_of(of_digits)
    monkeypatch.setattr(of_digits, "run", recorded)
    low = np.roll(REFERENCE, 3, axis=0).reshape(28, 28, 1)
    file, tensor = await asyncio.gather(ask(batcher, [png(low)]), ask(batcher, low[None]))
    fitted = of_digits.decode(png(low))[None]
    for outcome, images in ((file, fitted), (tensor, low[None])):
        np.testing.assert_allclose(result_of(outcome).predictions.logits, run(images), atol=1e-5)
    assert not np.allclose(run(fitted), run(low[None]), atol=1e-2)
    # Many that have yet to be fitted leave the loop.
    few = 1 + int(IN_PLACE_SECONDS / FITTING_SECONDS)
    await answer(batcher, [png(low)] * few)
    await answer(batcher, [png(REFERENCE)] * few)
    assert threads == [True, False, True]


async def test_preprocessing_alone_counts_in_the_queue(gated: GatedPredictor) -> None:
    batcher = batcher_of(gated, max_queue=2)
    task = asyncio.create_task(batcher.preprocess(LARGE))
    await asyncio.sleep(0)
    assert batcher.waiting == 1
    pixels, warnings = await task
    np.testing.assert_array_equal(pixels, BLACK)
    assert warnings
    for image in (BROKEN, b"", np.zeros((2, 2, 2), np.uint8)):
        with pytest.raises(ImageError):
            await batcher.preprocess(image)
    assert batcher.waiting == 0
    assert gated.batches == []


@pytest.mark.parametrize("threaded", [False, True])
async def test_results_come_on_the_event_loop(predictor: Predictor, *, threaded: bool) -> None:
    batcher = batcher_of(predictor, threaded=threaded)
    results: asyncio.Queue[tuple[int, bool]] = asyncio.Queue()
    jobs: list[Job] = []

    def on_result(outcome: Result | Exception) -> None:
        results.put_nowait((threading.get_ident(), isinstance(outcome, Result)))

    inputs: list[Any] = [picture(1), [SMALL], [LARGE], [BROKEN], [BROKEN_LARGE]]
    jobs += [batcher.submit(each, PLAIN, on_result) for each in inputs]
    outcomes = [await results.get() for _ in jobs]
    assert {thread for thread, _ in outcomes} == {threading.get_ident()}
    assert sorted(good for _, good in outcomes) == [False, False, True, True, True]


async def test_the_expected_time_follows_what_is_measured(predictor: Predictor) -> None:
    batcher = batcher_of(predictor)
    batcher._pace = 1000.0
    assert batcher._expected_seconds(1, 0) > IN_PLACE_SECONDS
    for seed in range(300):
        await answer(batcher, picture(seed))
    assert batcher._expected_seconds(1, 0) < IN_PLACE_SECONDS
