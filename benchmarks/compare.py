"""Every form of a request, beside a hand-written endpoint of the same form: `make bench`.

Every server serves the same ONNX files on one core; the load runs on another. Servers take turns
form by form, for several rounds, so that a noisy neighbor of the machine disturbs all alike. Ratios
are those of neighbors in time; their medians are what to read.
"""

import argparse
import json
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import chart, forms, load, models, report, servers
from benchmarks.forms import ADOPTED, DEFAULT, IMAGES, ROWS, Row, digits
from benchmarks.load import Measured, Request, Running
from benchmarks.report import Rounds
from benchmarks.servers import ASGI, BARE, BY_HAND, MOSEC, OURS, Server

RESULTS = Path(__file__).parent / "results"
WARM_UP_SECONDS = 1
CHECKED = 16
"""Answers of each server in each form that are compared with onnxruntime's before the load."""
MOSEC_PATH = "/models/{model}/predict"
TOLERANCE = 1e-4
"""Of a probability: peers compute in float32, with other builds of onnxruntime."""


class Bench:
    """Running servers, and what was measured of them."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.models = folder / "models"
        self._folder = folder
        self._options = options
        self._files = models.publish(options.models, self.models)
        self._expected = {name: models.reference(file) for name, file in self._files.items()}
        self._running: dict[str, Running] = {}

    @contextmanager
    def running(self, server: Server, ready: Request) -> Iterator[None]:
        """The server, which has answered the request."""
        if server.peer:
            servers.install(server.peer)
        with servers.started(server, self._files, ready) as running:
            self._running[server.name] = running
            yield

    def runs(self, name: str) -> bool:
        return name in self._running

    def prepare(self, name: str, requests: Sequence[Request], model: str) -> Path:
        """Compare a few answers with onnxruntime's, and write all requests to a file.

        Raises:
            RuntimeError: a label or a probability is another one.
        """
        for expected, request in zip(self._expected[model][:CHECKED], requests, strict=False):
            found = forms.probabilities(*load.send(self._running[name].port, request))
            right = max(found, key=lambda label: found[label]) == expected.argmax() and all(
                abs(value - expected[label]) < TOLERANCE for label, value in found.items()
            )
            if not right:
                raise RuntimeError(f"{name}, {request.path}: {found}, not {expected.tolist()}")
        return self.write(requests)

    def write(self, requests: Sequence[Request]) -> Path:
        return load.write(Path(tempfile.mkstemp(dir=self._folder)[1]), requests)

    def load(self, name: str, requests: Path, seconds: int) -> Measured:
        return load.put_load(
            self._running[name], requests, connections=self._options.connections, seconds=seconds
        )

    def warm_up(self, files: Mapping[str, Path]) -> None:
        """Load each server for a second."""
        for name, requests in files.items():
            self.load(name, requests, WARM_UP_SECONDS)

    def measure(self, files: Mapping[str, Path], number: int) -> dict[str, Measured]:
        """A round: each server in turn; there and back, so that none always comes last."""
        names = list(files)[:: 1 if number % 2 == 0 else -1]
        return {name: self.load(name, files[name], self._options.seconds) for name in names}


def start_all(bench: Bench, stack: ExitStack) -> None:
    """Start every server of the table; without one that cannot start, its figures are missing."""
    paths = {BY_HAND: "/raw", MOSEC: MOSEC_PATH}
    for server in servers.compared(bench.models):
        (ready,) = ROWS[0].requests(paths.get(server.name, "/predict"), 1)
        try:
            stack.enter_context(bench.running(server, ready))
        except RuntimeError as error:
            if server.name != ASGI:
                raise
            print(f"without {server.name}: {error}", flush=True)


def jobs(bench: Bench, row: Row) -> dict[str, Path]:
    """The servers that are asked in this form, and the file of their requests."""
    paths = {OURS: row.form.ours, BY_HAND: row.form.by_hand}
    if row.named != ADOPTED and bench.runs(ASGI):
        paths[ASGI] = row.form.ours
    if row.form.mosec:
        paths[MOSEC] = MOSEC_PATH
    found = {
        name: bench.prepare(name, row.requests(path), row.model) for name, path in paths.items()
    }
    if row == ROWS[0]:
        found[BARE] = bench.write(row.requests("/"))
    return found


def measure_forms(bench: Bench, rows: Sequence[Row], rounds: int) -> dict[Row, Rounds]:
    """What each round gave for each row."""
    prepared = {row: jobs(bench, row) for row in rows}
    found: dict[Row, Rounds] = {row: [] for row in rows}
    for files in prepared.values():
        bench.warm_up(files)
    for number in range(rounds):
        for row, files in prepared.items():
            measured = bench.measure(files, number)
            found[row].append(measured)
            speed = measured[OURS].per_second
            print(
                f"round {number + 1}: {row.form.title}, {row.label}: {speed:,.0f}/s, "
                f"{speed / measured[BY_HAND].per_second:.1f} times by hand",
                flush=True,
            )
    return found


def measure_others(bench: Bench, rounds: int) -> dict[str, Rounds]:
    """Other model servers, each beside the hand-written endpoint for raw images."""
    by_hand = bench.prepare(BY_HAND, ROWS[0].requests("/raw"), DEFAULT)
    found = {}
    for server in servers.others():
        requests = [Request(server.path, *server.encode(image)) for image in digits()]
        with bench.running(server, requests[0]):
            files = {
                server.name: bench.prepare(server.name, requests, DEFAULT),
                BY_HAND: by_hand,
            }
            bench.warm_up(files)
            found[server.name] = [bench.measure(files, number) for number in range(rounds)]
        print(f"{server.name}: {found[server.name][-1][server.name].per_second:,.0f}/s", flush=True)
    return found


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = list(dict.fromkeys(row.form.name for row in ROWS))
    parser.add_argument("--rows", help=f"some of {','.join(names)}; default: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of each load [3]")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--quick", action="store_true", help="one round of a second")
    parser.add_argument("--all-peers", action="store_true", help="other model servers as well")
    parser.add_argument("--models", type=Path, default=servers.ROOT / "models")
    parser.add_argument("--results", type=Path, help="folder [build/bench if not all is measured]")
    found = parser.parse_args()
    if found.quick:
        found.rounds, found.seconds = 1, 1
    whole = not (found.rows or found.quick)
    found.results = found.results or (RESULTS if whole else servers.ROOT / "build/bench")
    chosen = found.rows.split(",") if found.rows else names
    if unknown := set(chosen) - set(names):
        parser.error(
            f"--rows: there is no {', '.join(sorted(unknown))}; there are {', '.join(names)}"
        )
    found.rows = [row for row in ROWS if row.form.name in chosen]
    return found


def main() -> None:
    asked = options()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        bench = Bench(Path(folder), asked)
        start_all(bench, stack)
        rows = report.rows(measure_forms(bench, asked.rows, asked.rounds))
        others = measure_others(bench, asked.rounds) if asked.all_peers else {}
    about = {
        "python": platform.python_version(),
        "rounds": asked.rounds,
        "seconds": asked.seconds,
        "connections": asked.connections,
        "images": IMAGES,
    }
    document = {"about": about, "rows": rows, "others": report.others(others)}
    text = report.text(document)
    print(text)
    asked.results.mkdir(parents=True, exist_ok=True)
    (asked.results / "forms.json").write_text(json.dumps(document, indent=1) + "\n")
    (asked.results / "forms.md").write_text(text)
    chart.forms(rows, asked.results / "forms.png")


if __name__ == "__main__":
    main()
