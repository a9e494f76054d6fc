"""What the service's thresholds stand on: `python -m benchmarks.costs`.

Cost against batch size, cost of decoding and normalizing by size, and of going to a thread.
"""

import asyncio
import io
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np

from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import ModelRepository
from logitserve_training import drawings

BATCHES = (1, 8, 32, 64, 128, 256)
SIDES = (28, 48, 64, 96, 128, 512)
ROUNDS = 8


def microseconds(call: Callable[[], object], calls: int = 3) -> float:
    """The fastest round: what is above it, other work of the machine added."""
    return min(timeit.repeat(call, number=calls, repeat=ROUNDS)) / calls * 1e6


def drawn(side: int) -> bytes:
    """A seven on a sheet, as PNG."""
    paper = drawings.Paper(side, side, drawings.SHEET.paper, drawings.SHEET.ink)
    buffer = io.BytesIO()
    drawings.draw(7, seed=1, paper=paper).save(buffer, "PNG")
    return buffer.getvalue()


def batches(name: str, model: Predictor) -> None:
    """Microseconds a picture, by pictures in a run."""
    for count in BATCHES:
        images = np.zeros((count, *model.card.input.shape), np.uint8)
        each = microseconds(lambda images=images: model.predict(images)) / count  # type: ignore[misc]
        print(f"{name}, {count} in a run: {each:.1f} µs a picture")


async def thread() -> None:
    """Microseconds to a thread of the pool and back."""
    loop = asyncio.get_running_loop()
    fastest = float("inf")
    for _ in range(200):
        begun = loop.time()
        await loop.run_in_executor(None, int)
        fastest = min(fastest, loop.time() - begun)
    print(f"to a thread and back: {fastest * 1e6:.0f} µs")


def main() -> None:
    repository = ModelRepository(Path(__file__).parents[1] / "models")
    models = {
        name: Predictor.load(repository.model_file(name)) for name in ("digits-mlp", "digits")
    }
    for name, model in models.items():
        batches(name, model)
    for side in SIDES:
        data = drawn(side)
        each = microseconds(lambda data=data: models["digits"].decode(data))  # type: ignore[misc]
        print(f"decode and normalize {side}x{side}: {each / 1000:.2f} ms")
    asyncio.run(thread())


if __name__ == "__main__":
    main()
