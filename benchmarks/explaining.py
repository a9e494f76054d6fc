"""How long an explanation takes, whether its map is right, and what it costs the predictions.

    python -m benchmarks.explaining --data FOLDER

explains digits of MNIST's test part with the shipped `digits`, and prints two tables: the maps, and
predictions of a server beside explanations of another client, in turns with predictions alone and
beside as many predictions of another client.
"""

import argparse
import contextlib
import http.client
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import numpy_helper
from scipy.stats import spearmanr

from benchmarks import load
from benchmarks.markdown import Row, table
from benchmarks.servers import OURS_PATHS
from logitserve.inference.explaining import Explainer, Explanation, Method
from logitserve.inference.images import encode_png
from logitserve.inference.model_file import in_memory, read
from logitserve.inference.predictor import Predictor
from logitserve_training.datasets import mnist
from logitserve_training.progress import Reporter

MODELS: Final = Path(__file__).parents[1] / "models"
FILE: Final = MODELS / "digits/1/model.onnx"
PICTURES: Final = 100
BUDGET_MS: Final = 10_000
NOISE: Final = 5.0
"""Standard deviation, in gray levels."""
REQUESTS: Final = 1000
ROUNDS: Final = 9
EVERY_SECONDS: Final = 0.2
"""Time between the requests of another client: the budget of an explanation."""
LONGEST_START_SECONDS: Final = 60
Floats = Any


def shuffled(seed: int) -> bytes:
    """The network with the numbers of each weight in another order."""
    model, generator = onnx.load(FILE), np.random.default_rng(seed)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim > 1 and values.dtype == np.float32:
            mixed = generator.permutation(values.ravel()).reshape(values.shape)
            tensor.CopyFrom(numpy_helper.from_array(mixed, tensor.name))
    content: bytes = model.SerializeToString()
    return content


def cells(found: Explanation) -> Floats:
    """The map as an array."""
    return np.array(found.map, np.float64)


def top(values: Floats, ink: Floats) -> set[int]:
    """The highest fifth of the cells that have ink."""
    chosen = np.flatnonzero(ink)
    order = chosen[np.argsort(-values.ravel()[chosen], kind="stable")]
    return set(order[: max(1, len(chosen) // 5)].tolist())


def measure(method: Method, ours: Explainer, other: Explainer, images: Floats) -> Row:
    """One column of the first table."""
    seconds, drops, noisy, moved, same, random = ([] for _ in range(6))  # type: ignore[var-annotated]
    generator = np.random.default_rng(1)
    for image in images:
        begun = time.thread_time()  # of one thread, whatever others do on its core
        found = ours.explain(image, method=method, budget_ms=BUDGET_MS)
        seconds.append(time.thread_time() - begun)
        assert found.drop is not None
        drops.append((found.drop.top, found.drop.random))
        values = cells(found)
        asked: dict[str, Any] = {"method": method, "label": found.label}
        side = 28 // len(values)
        ink = image.reshape(len(values), side, len(values), side).max(axis=(1, 3)) > 0
        noise = generator.normal(0, NOISE, image.shape)
        shown = np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)
        again = cells(ours.explain(shown, **asked, budget_ms=BUDGET_MS))
        noisy.append(spearmanr(values.ravel(), again.ravel()).statistic)
        shifted = cells(ours.explain(np.roll(image, 1, axis=1), **asked, budget_ms=BUDGET_MS))
        moved.append(spearmanr(values.ravel(), shifted.ravel()).statistic)
        foreign = cells(other.explain(image, **asked, budget_ms=BUDGET_MS))
        best = top(values, ink)
        same.append(len(best & top(again, ink)) / len(best))
        random.append(len(best & top(foreign, ink)) / len(best))
    chosen, drawn = np.transpose(drops)
    return {
        "CPU ms, median": f"{1000 * np.median(seconds):.1f}",
        "CPU ms, p95": f"{1000 * np.quantile(seconds, 0.95):.1f}",
        "log-odds, fall without the top fifth": f"{chosen.mean():.2f}",
        "log-odds, fall without a random fifth": f"{drawn.mean():.2f}",
        "share in which the first is larger": f"{np.mean(chosen > drawn):.3f}",
        "same map with noise": f"{np.mean(noisy):.3f}",
        "same map, moved by a pixel": f"{np.mean(moved):.3f}",
        "top fifth with noise": f"{np.mean(same):.2f}",
        "top fifth with shuffled weights": f"{np.mean(random):.2f}",
    }


def asked(port: int, path: str, body: bytes) -> Iterator[float]:
    """Send requests one after the other over one connection; yield the seconds of each."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as client:
        while True:
            begun = time.perf_counter()
            client.request("POST", path, body)
            client.getresponse().read()
            yield time.perf_counter() - begun


def repeat(port: int, path: str, body: bytes, answered: Event) -> None:
    """Send a request every `EVERY_SECONDS`, without an end."""
    due = time.perf_counter()
    for _ in asked(port, path, body):
        answered.set()
        due += EVERY_SECONDS
        time.sleep(max(0.0, due - time.perf_counter()))


@contextlib.contextmanager
def beside(port: int, path: str, body: bytes) -> Iterator[None]:
    """Another process sends requests for as long as the block lasts."""
    spawn = multiprocessing.get_context("spawn")
    answered = spawn.Event()
    other = spawn.Process(target=repeat, args=(port, path, body, answered))
    other.start()
    try:
        assert answered.wait(LONGEST_START_SECONDS), "the other client was not answered"
        yield
    finally:
        other.kill()
        other.join()


def latencies(body: bytes) -> list[Row]:
    """The second table."""
    port = load.free_port()
    command = [sys.executable, "-m", "logitserve", "serve", "--models", str(MODELS)]
    command += ["--port", str(port)]
    environment = {"PYTHONPATH": os.pathsep.join(map(str, OURS_PATHS))}
    request = load.Request("/predict", body)
    rate = f"{1 / EVERY_SECONDS:g} a second"
    contexts: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "alone": contextlib.nullcontext,
        f"beside other predictions, {rate}": partial(beside, port, "/predict", body),
        f"beside explanations, {rate}": partial(beside, port, "/explain?method=occlusion", body),
    }
    found: dict[str, list[Floats]] = {what: [] for what in contexts}
    with load.running(command, port, request, environment=environment, cores="0,1"):
        for _ in range(ROUNDS):
            for what, context in contexts.items():
                with context():
                    seconds = islice(asked(port, "/predict", body), REQUESTS)
                    found[what].append(np.fromiter(seconds, np.float64))
    quantiles = {w: np.quantile(rounds, [0.5, 0.99], axis=1) for w, rounds in found.items()}
    rows = []
    for what, of in quantiles.items():
        p50, p99 = 1000 * np.median(of, axis=1)
        ratio = np.median(of[1] / quantiles["alone"][1])
        rows.append({"predictions": what, "ms, p50": f"{p50:.2f}", "ms, p99": f"{p99:.2f}",
                     "p99 / alone": f"{ratio:.2f}"})  # fmt: skip
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    images = mnist.load(parser.parse_args().data, Reporter()).test.images[:PICTURES]
    card = Predictor.load(FILE).card
    with read(FILE) as reading:
        ours = Explainer(reading, card)
    with in_memory([shuffled(1)]) as reading:
        other = Explainer(reading, card)
    images = images.reshape(-1, 28, 28, 1)
    methods = (Method.CAM, Method.OCCLUSION)
    found = {method.value: measure(method, ours, other, images) for method in methods}
    names = found[Method.CAM.value]
    rows = [{"": name, **{method: row[name] for method, row in found.items()}} for name in names]
    print(table(rows))
    print(table(latencies(encode_png(images[0, :, :, 0]))))


if __name__ == "__main__":
    main()
