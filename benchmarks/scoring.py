"""Scoring many pictures: `python -m benchmarks.scoring --pictures 200000`.

Draws pictures into tar files and scores them on this machine, and on a Ray cluster of two nodes
with one CPU each, on loopback, of which one is killed half way; counts rows. How it grows from one
process to two is measured with a part of them (`--growth`). The figures are of one run; ratios
between them are what to read. Written into `results/scoring.json`.
"""

import argparse
import io
import json
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from pyarrow import dataset

from logitserve.inference.runtime import available_cpus
from logitserve_training.drawings import draw
from tests.e2e import ray_nodes
from tests.e2e.process import command

HERE = Path(__file__).parent
MODELS = HERE.parent / "models"
SHARD = 2000
DRAWINGS = 2000
"""Hands that were drawn; each picture is one of them, moved by its own number of pixels."""
RUN_SECONDS = 600


def pictures(count: int) -> Iterator[tuple[str, bytes]]:
    """Names, and PNG files of 28×28, no two alike."""
    drawn = [np.asarray(draw(seed % 10, seed=seed).convert("L")) for seed in range(DRAWINGS)]
    for number in range(count):
        moved, hand = divmod(number, DRAWINGS)
        down, right = divmod(moved % 49, 7)
        pixels = np.roll(drawn[hand], (down - 3, right - 3), (0, 1)).copy()
        pixels[0, 0] = moved // 49  # beyond 49 places, a pixel of the edge tells them apart
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", compress_level=1)
        yield f"{number:07d}.png", file.getvalue()


def write_shards(folder: Path, count: int) -> None:
    """Tar files of `SHARD` pictures each."""
    made = pictures(count)
    for shard in range(-(-count // SHARD)):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as archive:
            for _ in range(min(SHARD, count - shard * SHARD)):
                name, content = next(made)
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


def start(shards: list[Path], output: Path, *options: str) -> subprocess.Popen[str]:
    sources = map(str, shards)
    return subprocess.Popen(
        command("predict", *sources, "--models", str(MODELS), "--output", str(output), *options),
        env=ray_nodes.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=RUN_SECONDS)
    if process.returncode:
        raise SystemExit(errors)


def timed(name: str, shards: list[Path], output: Path, *options: str) -> dict[str, object]:
    """Score all, start and end of the command included."""
    begun = time.monotonic()
    finish(start(shards, output, *options))
    return row(name, shards, output, time.monotonic() - begun)


def with_a_death(name: str, shards: list[Path], output: Path, address: str) -> dict[str, object]:
    """Score all on two nodes, of which one is killed when half of the parts are there."""
    half = len(shards) // 2
    with ray_nodes.another(address) as node:
        begun = time.monotonic()
        process = start(shards, output, "--engine", "ray", "--address", address)
        while len(list(output.glob("part-*"))) < half:
            if process.poll() is not None or time.monotonic() - begun > RUN_SECONDS:
                break
            time.sleep(0.05)
        node.kill()
        killed_at = len(list(output.glob("part-*")))
        finish(process)
    return row(name, shards, output, time.monotonic() - begun) | {"parts at the kill": killed_at}


def row(name: str, shards: list[Path], output: Path, seconds: float) -> dict[str, object]:
    """Count what is there: every picture once, none of them an error."""
    count = len(shards) * SHARD
    table = dataset.dataset(output).to_table(columns=["file", "error"])
    files = table["file"].to_pylist()
    found = {
        "run": name,
        "seconds": round(seconds, 1),
        "pictures/s": round(count / seconds),
        "rows": len(files),
        "different": len(set(files)),
        "errors": len(files) - table["error"].null_count,
    }
    print(json.dumps(found), flush=True)
    if (found["rows"], found["different"], found["errors"]) != (count, count, 0):
        raise SystemExit("rows are missing, or twice, or errors")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=200_000, help=f"a multiple of {SHARD}")
    parser.add_argument("--growth", type=int, default=20_000, help="likewise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scoring-") as folder:
        root = Path(folder)
        (root / "shards").mkdir()
        write_shards(root / "shards", options.pictures)
        shards = sorted((root / "shards").iterdir())
        some = shards[: options.growth // SHARD]
        found = []
        for result in runs(root, shards, some):
            found.append(result)
            report = {"cpus": available_cpus(), "runs": found}
            (HERE / "results/scoring.json").write_text(json.dumps(report, indent=2) + "\n")


def runs(root: Path, shards: list[Path], some: list[Path]) -> Iterator[dict[str, object]]:
    """Each way to score; all of the pictures, then some, with one process and with two."""
    local = ("--partitioned", "--workers")
    with ray_nodes.head() as address:
        yield with_a_death("Ray, 2 nodes, 1 killed half way", shards, root / "killed", address)
    yield timed("local, 2 processes", shards, root / "all", *local, "2")
    yield timed("local, 1 process", some, root / "local1", *local, "1")
    yield timed("local, 2 processes", some, root / "local2", *local, "2")
    with ray_nodes.head() as address:
        ray = ("--engine", "ray", "--address", address)
        yield timed("Ray, 1 node", some, root / "ray1", *ray)
        with ray_nodes.another(address):
            yield timed("Ray, 2 nodes", some, root / "ray2", *ray)


if __name__ == "__main__":
    main()
