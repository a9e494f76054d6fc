"""What a request costs against what it carries and what is served: `make bench-sweeps`.

Batch size, picture size, number of models, workers, and a large picture beside small ones. Each
sweep goes round several times in one run, and medians are shown.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from benchmarks import chart, forms, load
from benchmarks.load import LOAD_CORES, SERVER_CORES, Request, Running
from benchmarks.servers import BY_HAND, OURS, OURS_PATHS, ROOT, compared, install, started
from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import MODEL_FILE, ModelRepository
from logitserve_training import drawings

RESULTS = Path(__file__).parent / "results"
MODELS = ROOT / "models"

BATCHES = (1, 8, 32, 64, 128, 256)
SIZES = (
    (28, 28),
    (64, 64),
    (128, 128),
    (256, 256),
    (280, 280),
    (512, 512),
    (1024, 768),
    (4000, 3000),
)
MODEL_COUNTS = (1, 10, 100)
WORKERS = (1, 2)

Row = dict[str, Any]


class Sweeps:
    """Everything that is measured, in a folder for its requests."""

    def __init__(self, folder: Path, *, rounds: int, seconds: int) -> None:
        self.folder = folder
        self.rounds = range(rounds)
        self.seconds = seconds
        images = [forms.png(image) for image in forms.digits()]
        self.small = [Request("/predict", image, {"Content-Type": "image/png"}) for image in images]
        self.small_file = load.write(folder / "small", self.small)

    @contextmanager
    def serving(
        self,
        *options: str,
        models: Path = MODELS,
        default: str = "digits-mlp",
        cores: str = SERVER_CORES,
    ) -> Iterator[Running]:
        """A warm server on its cores."""
        port = load.free_port()
        command = [sys.executable, "-m", "logitserve", "serve", "--port", str(port)]
        command += ["--models", str(models), "--default-model", default, *options]
        environment = {"PYTHONPATH": os.pathsep.join(map(str, OURS_PATHS))}
        with load.running(
            command, port, self.small[0], environment=environment, cores=cores
        ) as running:
            self.per_second(running, self.small_file, connections=32)
            yield running

    def per_second(
        self, server: Running, requests: Path, *, connections: int = 4, cores: str = LOAD_CORES
    ) -> float:
        found = load.put_load(
            server, requests, connections=connections, seconds=self.seconds, cores=cores
        )
        return found.per_second

    def batch_sizes(self) -> list[Row]:
        """Pictures per second in V2 binary batches of `digits`, beside onnxruntime alone."""
        model = Predictor.load(ModelRepository(MODELS).model_file("digits"))
        drawn = np.random.default_rng(0)
        rows: list[Row] = []
        with self.serving() as server:
            for count in BATCHES:
                images = drawn.integers(0, 256, (count, *model.card.input.shape), dtype=np.uint8)
                tensor = {
                    "name": "image",
                    "shape": images.shape,
                    "datatype": "UINT8",
                    "parameters": {"binary_data_size": images.size},
                }
                asked = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
                head = json.dumps(asked).encode()
                request = Request(
                    "/v2/models/digits/infer",
                    head + images.tobytes(),
                    {"Inference-Header-Content-Length": str(len(head))},
                )
                requests = load.write(self.folder / f"v2-{count}", [request])
                served, alone = [], []
                for _ in self.rounds:
                    alone.append(_pictures_per_second(model, images, self.seconds))
                    served.append(count * self.per_second(server, requests, connections=2))
                ratio = statistics.median(s / a for s, a in zip(served, alone, strict=True))
                rows.append(
                    {
                        "pictures in a request": count,
                        "served, pictures/s": statistics.median(served),
                        "onnxruntime alone": statistics.median(alone),
                        "ratio": ratio,
                    }
                )
        return rows

    def picture_sizes(self) -> list[Row]:
        """Requests per second against the size of the picture, and to an endpoint that resizes."""
        paths = {OURS: "/predict", BY_HAND: "/raw"}
        files: dict[tuple[int, int, str], dict[str, Path]] = {}
        for width, height in SIZES:
            image = _drawn(width, height)
            for kind in ("png", "jpeg"):
                file = self.folder / f"{width}x{height}.{kind}"
                image.save(file)
                headers = {"Content-Type": f"image/{kind}"}
                files[width, height, kind] = {
                    name: load.write(
                        self.folder / f"{file.name}{path.replace('/', '-')}",
                        [Request(path, file.read_bytes(), headers)],
                    )
                    for name, path in paths.items()
                }
        found: dict[tuple[int, int, str], list[tuple[float, float]]] = {key: [] for key in files}
        models = {"digits-mlp": ModelRepository(MODELS).model_file("digits-mlp")}
        (by_hand,) = (each for each in compared(MODELS) if each.name == BY_HAND)
        install("fastapi")
        ready = Request("/raw", self.small[0].body)
        with self.serving() as server, started(by_hand, models, ready) as other:
            for _ in self.rounds:
                for key, file in files.items():
                    alone = self.per_second(other, file[BY_HAND])
                    found[key].append((self.per_second(server, file[OURS]), alone))
        rows = []
        for width, height in SIZES:
            row: Row = {"picture": f"{width}×{height}"}
            for kind in ("png", "jpeg"):
                measured = found[width, height, kind]
                speeds, ratios = zip(
                    *((ours, ours / theirs) for ours, theirs in measured), strict=True
                )
                row[f"{kind.upper()}, requests/s"] = statistics.median(speeds)
                row[f"{kind.upper()}, to hand-written"] = statistics.median(ratios)
            rows.append(row)
        return rows

    def model_counts(self) -> list[Row]:
        """Requests per second and memory with so many models, all but one of them not asked."""
        source = ModelRepository(MODELS).model_file("digits-mlp")
        found: dict[int, list[tuple[float, float]]] = {count: [] for count in MODEL_COUNTS}
        for _ in self.rounds:
            for count in MODEL_COUNTS:
                with tempfile.TemporaryDirectory() as folder:
                    for number in range(count):
                        target = Path(folder) / f"digits-{number}" / "1" / MODEL_FILE
                        target.parent.mkdir(parents=True)
                        shutil.copyfile(source, target)
                    with self.serving(models=Path(folder), default="digits-0") as server:
                        speed = self.per_second(server, self.small_file, connections=32)
                        found[count].append((speed, _resident(server.pid)))
        first = found[MODEL_COUNTS[0]]
        rows = []
        for count, measured in found.items():
            speeds, memories = zip(*measured, strict=True)
            ratios = [speed / alone for speed, (alone, _) in zip(speeds, first, strict=True)]
            rows.append(
                {
                    "models": count,
                    "requests/s": statistics.median(speeds),
                    "ratio": statistics.median(ratios),
                    "resident, MiB": statistics.median(memories) / 2**20,
                }
            )
        return rows

    def workers(self) -> list[Row]:
        """One worker with its load on one core, two with theirs on two."""
        found: dict[int, list[float]] = {count: [] for count in WORKERS}
        for _ in self.rounds:
            for count in WORKERS:
                cores = ",".join(map(str, range(count)))
                with self.serving("--workers", str(count), cores=cores) as server:
                    found[count].append(
                        self.per_second(
                            server, self.small_file, connections=32 * count, cores=cores
                        )
                    )
        alone = found[WORKERS[0]]
        return [
            {
                "workers = cores": count,
                "requests/s": statistics.median(speeds),
                "ratio": statistics.median(s / a for s, a in zip(speeds, alone, strict=True)),
            }
            for count, speeds in found.items()
        ]

    def beside_a_large_one(self) -> list[Row]:
        """A stream at half of what the server can, without and with a 12-megapixel JPEG."""
        large = self.folder / "large.jpeg"
        _drawn(4000, 3000).save(large)
        calm, busy = [], []
        with self.serving() as server:
            rate = self.per_second(server, self.small_file, connections=32) / 2
            for _ in self.rounds:
                calm.append(self._stream(server.port, rate))
                with _asking(server.port, large):
                    busy.append(self._stream(server.port, rate))
        return [
            {
                "beside": name,
                "small requests/s": rate,
                "p50, ms": statistics.median(row["p50_ms"] for row in rows),
                "p99, ms": statistics.median(row["p99_ms"] for row in rows),
                "ratio of p99": statistics.median(
                    row["p99_ms"] / quiet["p99_ms"] for row, quiet in zip(rows, calm, strict=True)
                ),
            }
            for name, rows in (("nothing", calm), ("one 4000×3000 JPEG after the other", busy))
        ]

    def _stream(self, port: int, rate: float) -> dict[str, float]:
        body = self.folder / "small.png"
        body.write_bytes(self.small[0].body)
        command = ["taskset", "-c", LOAD_CORES, sys.executable, "steady.py"]
        command += ["--port", str(port), "--body", str(body)]
        command += ["--rate", f"{rate:g}", "--seconds", f"{self.seconds:g}"]
        done = subprocess.run(
            command, cwd=Path(__file__).parent, check=True, capture_output=True, text=True
        )
        measured: dict[str, float] = json.loads(done.stdout)
        return measured


def _drawn(width: int, height: int) -> Image.Image:
    """A seven on a sheet of paper, with the grain of a photograph where it is large."""
    paper = drawings.Paper(height, width, drawings.SHEET.paper, drawings.SHEET.ink)
    image = drawings.draw(7, seed=1, paper=paper).convert("L")
    if max(width, height) <= 280:
        return image
    grain = np.random.default_rng(0).normal(0, 3, (height, width))
    photographed = np.clip(np.asarray(image, np.float64) + grain, 0, 255).astype(np.uint8)
    return Image.fromarray(photographed).convert("RGB")


def _pictures_per_second(model: Predictor, images: np.ndarray, seconds: float) -> float:
    """The network in this process, on the server's core and one thread, while the server rests."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, map(int, SERVER_CORES.split(",")))
    try:
        model.run(images)
        begun = time.perf_counter()
        runs = 0
        while time.perf_counter() < begun + seconds:
            model.run(images)
            runs += 1
        return runs * len(images) / (time.perf_counter() - begun)
    finally:
        os.sched_setaffinity(0, mine)


def _resident(pid: int) -> float:
    root = psutil.Process(pid)
    family = [root, *root.children(recursive=True)]
    return float(sum(member.memory_info().rss for member in family))


@contextmanager
def _asking(port: int, picture: Path) -> Iterator[None]:
    """One connection that sends the picture again and again."""
    script = (
        "import sys, http.client\n"
        "body = open(sys.argv[2], 'rb').read()\n"
        "client = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]))\n"
        "while True:\n"
        "    client.request('POST', '/predict', body, {'Content-Type': 'image/jpeg'})\n"
        "    response = client.getresponse()\n"
        "    assert response.status == 200, response.read()\n"
        "    response.read()\n"
    )
    asking = subprocess.Popen(
        ["taskset", "-c", LOAD_CORES, sys.executable, "-c", script, str(port), str(picture)]
    )
    try:
        time.sleep(0.5)
        yield
    finally:
        asking.terminate()
        asking.wait()


SWEEPS = ("batch_sizes", "picture_sizes", "model_counts", "workers", "beside_a_large_one")


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---:|" * len(rows[0])]
    lines += ["| " + " | ".join(map(_cell, row.values())) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    return chart.short(value) if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of each load")
    parser.add_argument("--only", nargs="*", choices=SWEEPS, default=SWEEPS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    asked.results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        sweeps = Sweeps(Path(folder), rounds=asked.rounds, seconds=asked.seconds)
        for name in asked.only:
            rows = getattr(sweeps, name)()
            title = getattr(Sweeps, name).__doc__
            text = f"{title}\n\n{table(rows)}"
            print(text, flush=True)
            (asked.results / f"{name}.md").write_text(text)
            (asked.results / f"{name}.json").write_text(
                json.dumps({"rounds": asked.rounds, "seconds": asked.seconds, "rows": rows}) + "\n"
            )
            chart.sweep(title, rows, asked.results / f"{name}.png")


if __name__ == "__main__":
    main()
