"""Requests per second and latency of logitserve beside its peers: `make bench`.

Every server serves the same ONNX file on one core; the load runs on another. All go in turn, for
several rounds, so that a noisy neighbor of the machine disturbs all alike; medians are compared.
"""

import argparse
import base64
import io
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import chart
import load
import numpy as np
from load import Measured, Payload
from PIL import Image
from servers import ENVIRONMENTS, OURS, PEERS, USUAL, Contender, contenders

from logitserve.inference.mnist import normalize
from logitserve.inference.repository import ModelRepository
from logitserve_training import drawings

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
CONNECTIONS = (32, 1)


def make_environments() -> None:
    """A virtual environment for each peer, from its locked requirements."""
    uv = Path(sys.executable).with_name("uv")
    for requirements in sorted(PEERS.glob("*/requirements.txt")):
        folder = ENVIRONMENTS / requirements.parent.name
        stamp = folder / ".installed"
        if stamp.exists() and stamp.stat().st_mtime > requirements.stat().st_mtime:
            continue
        print(f"installing {folder.name}", flush=True)
        subprocess.run(
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True
        )
        subprocess.run(
            [
                *(uv, "pip", "install", "--quiet", "--require-hashes"),
                *("--python", folder / "bin/python", "--requirement", requirements),
            ],
            check=True,
        )
        stamp.touch()


def normalized_digit() -> bytes:
    """A drawn seven as MNIST would hold it: 28×28, gray, PNG."""
    gray = np.asarray(drawings.draw(7, seed=1, paper=drawings.SHEET).convert("L"))
    buffer = io.BytesIO()
    Image.fromarray(normalize.normalize(gray, None)).save(buffer, "PNG")
    return buffer.getvalue()


def make_payloads(folder: Path) -> dict[str, Payload]:
    """One drawn digit, 28×28, as each kind of body."""
    picture = normalized_digit()
    text = base64.b64encode(picture).decode()
    boundary = "boundary-of-the-benchmark"
    form = (
        (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="digit.png"\r\n'
            "Content-Type: image/png\r\n\r\n"
        ).encode()
        + picture
        + f"\r\n--{boundary}--\r\n".encode()
    )
    tensor = {
        "name": "picture",
        "shape": [1, 1],
        "datatype": "BYTES",
        "data": [text],
        "parameters": {"content_type": "base64"},
    }
    bodies = {
        "png": (picture, "image/png"),
        "form": (form, f"multipart/form-data; boundary={boundary}"),
        "b64": (json.dumps({"instances": [{"b64": text}]}).encode(), "application/json"),
        "v2": (json.dumps({"inputs": [tensor]}).encode(), "application/json"),
    }
    payloads = {}
    for kind, (body, content_type) in bodies.items():
        (folder / kind).write_bytes(body)
        payloads[kind] = Payload(folder / kind, content_type)
    return payloads


Rounds = dict[str, dict[int, list[Measured]]]
"""Contender → connections → what each round gave."""


def measure(
    contender: Contender, payloads: dict[str, Payload], model: Path, seconds: float
) -> dict[int, Measured]:
    """Start one server, warm it up, and load it at each number of connections."""
    port, second_port = load.free_port(), load.free_port()

    def filled(text: str) -> str:
        return text.replace("{port2}", str(second_port)).replace("{port}", str(port))

    environment = {
        "MODEL": str(model),
        "PORT": str(port),
        "PYTHONPATH": f"{PEERS}:{ROOT}",
        **{k: filled(v) for k, v in contender.variables.items()},
    }
    folder = PEERS / contender.environment if contender.environment else ROOT
    command = [filled(part) for part in contender.command]
    url = f"http://127.0.0.1:{port}{contender.path}"
    payload = payloads[contender.body]
    with load.running(command, url, payload, environment=environment, folder=folder):
        load.put_load(url, payload, connections=CONNECTIONS[0], seconds=load.WARM_UP_SECONDS)
        return {
            connections: load.put_load(url, payload, connections=connections, seconds=seconds)
            for connections in CONNECTIONS
        }


def summarize(rounds: Rounds) -> list[dict[str, Any]]:
    """Medians over the rounds, and ratios to the hand-written endpoint."""
    rows: list[dict[str, Any]] = []
    for name, by_connections in rounds.items():
        many, one = (by_connections[connections] for connections in CONNECTIONS)
        rows.append(
            {
                "name": name,
                "requests_per_second": statistics.median(m.per_second for m in many),
                "p50_ms": statistics.median(m.p50_ms for m in many),
                "p99_ms": statistics.median(m.p99_ms for m in many),
                "alone_p50_ms": statistics.median(m.p50_ms for m in one),
            }
        )
    usual = next((row for row in rows if row["name"] == USUAL), None)
    for row in rows:
        row["ratio"] = row["requests_per_second"] / usual["requests_per_second"] if usual else None
    return sorted(rows, key=lambda row: -row["requests_per_second"])


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| server | requests/s | ratio | p50, 32 connections | p99 | p50, 1 connection |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        name = f"**{row['name']}**" if row["name"] == OURS else row["name"]
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}×"
        lines.append(
            f"| {name} | {row['requests_per_second']:,.0f} | {ratio} | {row['p50_ms']:.2f} ms "
            f"| {row['p99_ms']:.2f} ms | {row['alone_p50_ms']:.2f} ms |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each load")
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--only", nargs="*", help="names of contenders")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    make_environments()
    chosen = [
        c for c in contenders(arguments.models) if not arguments.only or c.name in arguments.only
    ]
    model = ModelRepository(arguments.models).model_file("digits-mlp").resolve()
    rounds: Rounds = {c.name: {connections: [] for connections in CONNECTIONS} for c in chosen}
    with tempfile.TemporaryDirectory() as folder:
        payloads = make_payloads(Path(folder))
        for number in range(1, arguments.rounds + 1):
            for contender in chosen:
                found = measure(contender, payloads, model, arguments.seconds)
                for connections, measured in found.items():
                    rounds[contender.name][connections].append(measured)
                print(
                    f"round {number}: {contender.name}: {found[CONNECTIONS[0]].per_second:,.0f}/s",
                    flush=True,
                )
    rows = summarize(rounds)
    print(table(rows))
    arguments.results.mkdir(parents=True, exist_ok=True)
    about = {
        "python": platform.python_version(),
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
    }
    (arguments.results / "compare.json").write_text(
        json.dumps({"about": about, "rows": rows}, indent=1) + "\n"
    )
    (arguments.results / "compare.md").write_text(table(rows))
    chart.throughput(rows, arguments.results / "compare.png")


if __name__ == "__main__":
    main()
