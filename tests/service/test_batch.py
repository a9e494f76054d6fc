"""Encoded pictures that are decoded with their batch."""

import asyncio
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest

from logitserve.inference import preprocessing
from logitserve.inference.card import Fit, InputSpec
from logitserve.inference.errors import UnreadableImageError
from logitserve.inference.predictor import Predictor
from logitserve.inference.runtime import open_session
from logitserve_service.execution.batch import Answer
from logitserve_service.execution.batcher import (
    FINISH_SECONDS,
    IN_PLACE_SECONDS,
    MAX_BATCH,
    Batcher,
)
from tests import tiny_models
from tests.logitserve.inference.test_handwriting import REFERENCE
from tests.logitserve.inference.test_native_png import resealed
from tests.service.gated import GatedPredictor, busy, in_a_thread, picture
from tests.tiny_models import png, random_picture

pytestmark = pytest.mark.anyio


def broken() -> bytes:
    """A file whose checksums are right, but whose pixels cannot be unpacked."""
    file = png(np.zeros((28, 28), np.uint8))
    return file[:33] + resealed(b"IDAT", b"no pixels") + file[-12:]


@pytest.fixture
def of_digits(tmp_path: Path) -> Predictor:
    spec = InputSpec(height=28, width=28, channels=1, fit=Fit.DIGIT)
    matrix = tiny_models.weights(spec, 10, seed=0)
    path = tmp_path / "digits.onnx"
    onnx.save(tiny_models.linear_graph(spec, matrix), path)
    # Not by `load`: its golden is noise, which is no digit.
    return Predictor(tiny_models.card_for(matrix, spec=spec), open_session(path))


@pytest.mark.parametrize("threaded", [False, True])
async def test_files_and_pixels_share_a_run_and_each_gets_its_own_answer(
    gated: GatedPredictor, *, threaded: bool
) -> None:
    batcher = Batcher(gated, max_queue=1000)
    if threaded:
        in_a_thread(batcher)
    gated.batches.clear()
    files = [png(random_picture(seed)) for seed in range(20)]
    arrays = [np.stack([random_picture(100 + seed)] * (1 + seed % 3)) for seed in range(10)]
    items = [item for pair in zip(files[::2], arrays, files[1::2], strict=True) for item in pair]
    answers = await asyncio.gather(*[batcher.submit(item) for item in items])
    assert gated.batches == [20 + sum(map(len, arrays))]
    for item, answer in zip(items, answers, strict=True):
        images = (
            preprocessing.decode(item, gated.card.input)[None] if isinstance(item, bytes) else item
        )
        expected = gated.predict(images)
        np.testing.assert_allclose(answer.predictions.logits, expected.logits, atol=1e-5)
        np.testing.assert_array_equal(answer.predictions.argmax, expected.argmax)
        assert [row["argmax"] for row in answer.rendered] == expected.argmax.tolist()
        assert [row["probability"] for row in answer.rendered] == pytest.approx(
            expected.probabilities.max(axis=1)
        )


async def test_a_file_that_cannot_be_decoded_fails_alone(predictor: Predictor) -> None:
    batcher = Batcher(predictor, max_queue=1000)
    files = [png(random_picture(1)), broken(), png(random_picture(2)), broken()]
    outcomes = await asyncio.gather(*map(batcher.submit, files), return_exceptions=True)
    for outcome, file in zip(outcomes, files, strict=True):
        if file == broken():
            assert isinstance(outcome, UnreadableImageError)
        else:
            assert isinstance(outcome, Answer)
            assert outcome.batch_size == 2
            expected = predictor.predict(preprocessing.decode(file, predictor.card.input)[None])
            np.testing.assert_allclose(outcome.predictions.logits, expected.logits, atol=1e-5)


async def test_where_every_file_is_broken_the_queue_goes_on(predictor: Predictor) -> None:
    batcher = Batcher(predictor, max_queue=1000)
    for _ in range(2):
        with pytest.raises(UnreadableImageError):
            await batcher.submit(broken())
    assert (await batcher.submit(picture(1))).batch_size == 1


async def test_pixels_are_not_fitted_but_files_are(of_digits: Predictor) -> None:
    spec = of_digits.card.input
    batcher = Batcher(of_digits, max_queue=1000)
    low = np.roll(REFERENCE, 3, axis=0).reshape(28, 28, 1)
    file, array = await asyncio.gather(batcher.submit(png(low)), batcher.submit(low[None]))
    assert file.batch_size == array.batch_size == 2
    fitted = of_digits.run(preprocessing.decode(png(low), spec)[None])
    as_it_is = of_digits.run(low[None])
    assert not np.allclose(fitted, as_it_is, atol=1e-2)
    np.testing.assert_allclose(file.predictions.logits, fitted, atol=1e-5)
    np.testing.assert_allclose(array.predictions.logits, as_it_is, atol=1e-5)


async def test_many_that_do_not_fit_leave_the_loop(
    of_digits: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    found = of_digits.run

    def run(images: preprocessing.Pixels) -> object:
        threads.append(threading.current_thread() is threading.main_thread())
        return found(images)

    batcher = Batcher(of_digits, max_queue=1000)
    monkeypatch.setattr(of_digits, "run", run)
    low = png(np.roll(REFERENCE, 3, axis=0))
    await batcher.submit(low)
    few = 1 + int(IN_PLACE_SECONDS / FINISH_SECONDS)
    await asyncio.gather(*[batcher.submit(low) for _ in range(few)])
    await asyncio.gather(*[batcher.submit(png(REFERENCE)) for _ in range(few)])
    assert threads == [True, False, True]


async def test_a_file_whose_client_has_gone_is_not_even_decoded(gated: GatedPredictor) -> None:
    batcher = in_a_thread(Batcher(gated, max_queue=1000))
    gated.batches.clear()
    first = await busy(batcher, gated)
    replies = [batcher.submit(png(random_picture(seed))) for seed in range(MAX_BATCH)]
    replies[5].cancel()
    gated.gate.set()
    await first
    await asyncio.gather(*replies[:5], *replies[6:])
    assert gated.batches == [1, MAX_BATCH - 1]
