"""Odd and mutated pictures against a real server: `python -m tests.campaigns.odd_pictures`.

No answer may be 5xx, no connection may be dropped, and memory has to stay flat.
"""

import argparse
import base64
import contextlib
import http.client
import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from tests.campaigns import pictures
from tests.e2e.process import running

MODELS = Path(__file__).parents[2] / "models"
CONNECTIONS = 8
WARM_UP = 200
SAMPLE_SECONDS = 0.1
MIB = 2**20
BOUNDARY = "odd-pictures"

Request = tuple[str, dict[str, str], bytes]


@dataclass
class Outcome:
    """What a campaign gave."""

    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    before: float = 0.0
    """MiB that the server and its workers have resident, warmed up."""
    after: float = 0.0
    peak: float = 0.0


def request(number: int, picture: bytes) -> Request:
    """One of the ways to send a picture, in turn."""
    way = number % 6
    if way == 0:
        return "/predict", {"Content-Type": "application/octet-stream"}, picture
    if way == 1:
        return "/models/scenes/predict", {"Content-Type": "image/png"}, picture
    if way == 2:
        return "/models/digits/preview", {"Content-Type": "image/jpeg"}, picture
    if way == 3:
        part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        body = (part.encode() + picture + b"\r\n") * 2 + f"--{BOUNDARY}--\r\n".encode()
        return "/predict", {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}, body
    if way == 4:
        body = json.dumps({"images": [base64.b64encode(picture).decode()]}).encode()
        return "/predict", {"Content-Type": "application/json"}, body
    data = len(picture).to_bytes(4, "little") + picture
    tensor = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [1],
        "parameters": {"binary_data_size": len(data)},
    }
    document = json.dumps({"inputs": [tensor]}).encode()
    length = {"Inference-Header-Content-Length": str(len(document))}
    return "/v2/models/digits/infer", length, document + data


def send(url: str, numbered: Sequence[tuple[str, int]], outcome: Outcome) -> None:
    """Send pictures one after the other over one connection that is kept alive."""
    address = urlsplit(url).netloc
    with contextlib.closing(http.client.HTTPConnection(address, timeout=60)) as connection:
        for kind, number in numbered:
            picture = (pictures.odd if kind == "odd" else pictures.mutated)(number)
            path, headers, body = request(number // len(pictures.ODD) + number, picture)
            try:
                connection.request("POST", path, body, headers)
                response = connection.getresponse()
                answer = response.read()
            except (OSError, http.client.HTTPException) as error:
                outcome.faults.append(f"{kind} {number} to {path}: {error!r}")
                connection.close()
                continue
            outcome.statuses[response.status] += 1
            problem = response.headers.get_content_type() == "application/problem+json"
            if response.status >= 500 or (response.status >= 400 and not problem):
                found = f"{response.status} {answer[:300]!r}"
                outcome.faults.append(f"{kind} {number} to {path}: {found}")


def resident(process: psutil.Process) -> float:
    """MiB of a process and its descendants."""
    return (
        sum(each.memory_info().rss for each in (process, *process.children(recursive=True))) / MIB
    )


def campaign(*, mutated: int, odd: int, models: Path = MODELS) -> Outcome:
    """Run it: start a server, warm it up with some of the pictures, send them all."""
    outcome = Outcome()
    with running("--models", str(models)) as server:
        process = psutil.Process(server.process.pid)
        warm_up = [("odd", number) for number in range(min(odd, WARM_UP))]
        _all(server.url, warm_up, Outcome())
        outcome.before = outcome.peak = resident(process)
        finished = threading.Event()

        def watch() -> None:
            while not finished.wait(SAMPLE_SECONDS):
                outcome.peak = max(outcome.peak, resident(process))

        watcher = threading.Thread(target=watch)
        watcher.start()
        _all(server.url, list(_numbered(mutated, odd)), outcome)
        finished.set()
        watcher.join()
        outcome.after = resident(process)
        if server.process.poll() is not None:
            outcome.faults.append(f"the server ended: {server.log[-20:]}")
    return outcome


def _numbered(mutated: int, odd: int) -> Iterator[tuple[str, int]]:
    yield from (("odd", number) for number in range(odd))
    yield from (("mutated", number) for number in range(mutated))


def _all(url: str, numbered: Sequence[tuple[str, int]], outcome: Outcome) -> None:
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        parts = [numbered[start::CONNECTIONS] for start in range(CONNECTIONS)]
        for done in [threads.submit(send, url, part, outcome) for part in parts]:
            done.result()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutated", type=int, default=5_000)
    parser.add_argument("--odd", type=int, default=1_000)
    asked = parser.parse_args()
    outcome = campaign(mutated=asked.mutated, odd=asked.odd)
    statuses = ", ".join(
        f"{count} × {status}" for status, count in sorted(outcome.statuses.items())
    )
    print(f"{asked.mutated} mutated and {asked.odd} odd pictures: {statuses}")
    print(
        f"resident memory: {outcome.before:.0f} MiB before, {outcome.after:.0f} after "
        f"({outcome.after - outcome.before:+.1f}), {outcome.peak:.0f} at most"
    )
    for fault in outcome.faults:
        print(f"FAULT: {fault}")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
