"""What many models cost, and what loading one costs the others: `python -m benchmarks.many_models`.

Copies of a shipped model under other names, each loaded, proven, warmed up and asked for a batch:
memory a model, and the cost of finding and asking one among them beside that of the only one. With
`--stall`, for how long loading a network keeps other threads, the event loop among them, from
running.
"""

import argparse
import gc
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from onnx import TensorProto, helper, numpy_helper, save

from logitserve.inference import runtime
from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import MODEL_FILE, ModelRepository
from logitserve_service.config.version_policy import VersionPolicy
from logitserve_service.execution.batcher import Batcher
from logitserve_service.repository.catalog import Catalog
from logitserve_service.repository.loader import Loader
from logitserve_service.repository.shared_state import SharedState

ROOT = Path(__file__).parents[1]
NAMES = ("digits-mlp", "digits")
COPIES = 100
BATCH = 64
ROUNDS = 200
LAYERS, WIDTH = 40, 784


def mebibytes(count: float) -> float:
    return count / 2**20


def resident() -> int:
    gc.collect()
    resident: int = psutil.Process().memory_info().rss
    return resident


def loaded(folder: Path) -> Catalog:
    batcher = partial(Batcher, max_queue=BATCH)
    return Catalog.load(Loader(ModelRepository(folder), VersionPolicy(), batcher, SharedState()))


def copies(name: str, folder: Path, count: int) -> int:
    """Put a model into the folder under as many names; bytes of its file."""
    source = ModelRepository(ROOT / "models").model_file(name)
    for number in range(count):
        target = folder / f"{name}-{number}" / "1" / MODEL_FILE
        target.parent.mkdir(parents=True)
        shutil.copyfile(source, target)
    return source.stat().st_size


def cpu_seconds(call: Callable[[], object]) -> float:
    """The median of many calls."""
    taken = []
    for _ in range(ROUNDS):
        begun = time.thread_time()
        call()
        taken.append(time.thread_time() - begun)
    return float(np.median(taken))


def ask(catalog: Catalog, name: str, images: np.ndarray) -> None:
    catalog.find(name).predictor.predict(images)


def memory(name: str) -> None:
    """MiB that each copy adds, and what asking one of them costs beside asking the only one."""
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as rest:
        size = copies(name, Path(first), 1)
        alone = loaded(Path(first))
        only = f"{name}-0"
        picture = np.zeros((1, *alone.find(only).card.input.shape), np.uint8)
        batch = np.repeat(picture, BATCH, axis=0)
        ask(alone, only, batch)
        copies(name, Path(rest), COPIES)
        before = resident()
        many = loaded(Path(rest))
        for model in many.models:
            ask(many, model, batch)
        each = mebibytes((resident() - before) / COPIES)
        # In turn, so that both meet the same machine.
        ratios = [
            cpu_seconds(lambda: ask(alone, only, picture))
            / cpu_seconds(lambda: ask(many, only, picture))
            for _ in range(9)
        ]
    print(
        f"{name}: {COPIES} copies add {each:.2f} MiB each (file {mebibytes(size):.2f} MiB); "
        f"one is asked at {np.median(ratios):.2f} of the speed of the only one"
    )


def wide_network(path: Path) -> None:
    """A network of 98 MB."""
    drawn = np.random.default_rng(0)
    nodes = [helper.make_node("Cast", ["image"], ["x0"], to=TensorProto.FLOAT)]
    weights = []
    for layer in range(LAYERS):
        matrix = drawn.normal(0, 0.02, (WIDTH, WIDTH)).astype(np.float32)
        weights.append(numpy_helper.from_array(matrix, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [f"x{layer}", f"w{layer}"], [f"x{layer + 1}"]))
    picture = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", WIDTH])
    logits = helper.make_tensor_value_info(f"x{LAYERS}", TensorProto.FLOAT, ["batch", WIDTH])
    graph = helper.make_graph(nodes, "wide", [picture], [logits], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def longest_stall(load: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds: of the load, and the longest time that another thread could not run in it."""
    waits: list[float] = []
    ended = threading.Event()

    def tick() -> None:
        last = time.perf_counter()
        while not ended.is_set():
            time.sleep(0.0002)
            waits.append((now := time.perf_counter()) - last)
            last = now

    ticking = threading.Thread(target=tick)
    ticking.start()
    begun = time.perf_counter()
    load()
    seconds = time.perf_counter() - begun
    ended.set()
    ticking.join()
    return seconds * 1000, max(waits) * 1000


def stalls() -> None:
    """How long loading keeps the event loop waiting."""
    ort = runtime.load_onnxruntime()

    def from_bytes(path: Path) -> None:
        ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

    def whole(path: Path) -> None:
        Batcher(Predictor.load(path), max_queue=1)

    with tempfile.TemporaryDirectory() as folder:
        wide = Path(folder) / "wide.onnx"
        wide_network(wide)
        cases: list[tuple[str, Callable[[Path], object], Path]] = [
            ("98 MB, parsed from bytes", from_bytes, wide),
            ("98 MB, as the service loads it", runtime.open_session, wide),
        ]
        repository = ModelRepository(ROOT / "models")
        cases += [
            (f"{name}, proven and warmed up", whole, repository.model_file(name)) for name in NAMES
        ]
        for title, load, path in cases:
            # The best of several: what is above it, other work of the machine added.
            seconds, stall = min(
                (longest_stall(lambda load=load, path=path: load(path)) for _ in range(9)),  # type: ignore[misc]
                key=lambda pair: pair[1],
            )
            print(f"{title}: {seconds:.0f} ms, others wait for {stall:.1f} ms at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stall", action="store_true", help="measure loading instead")
    if parser.parse_args().stall:
        stalls()
        return
    for name in NAMES:
        memory(name)


if __name__ == "__main__":
    main()
