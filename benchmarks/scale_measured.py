"""What one replica and its proxy take, for `docs/scale.md`: `python -m benchmarks.scale_measured`.

Bytes of a request and an answer, series of `/metrics`, CPU time of nginx and HAProxy a request, the
queue's gauge under load, memory while a large model is replaced, and what looking at the folder of
models asks of its volume. Needs wrk, nginx, haproxy, strace and openssl; 4 GB of memory, a minute
or two. Writes `results/scale.json`.
"""

import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
from PIL import Image

from benchmarks import forms, load, scale
from logitserve.inference.card import Fit, InputSpec
from logitserve.inference.repository import MODEL_FILE
from tests import tiny_models
from tests.e2e.process import Server, running

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULT = HERE / "results" / "scale.json"
CONNECTIONS = (32, 128, 512)
LOAD_SECONDS = 3
STRACE_SECONDS = 5
SIZES = {
    "1 MB": (InputSpec(height=28, width=28, channels=1, fit=Fit.STRETCH), 319),
    "1 GB": (InputSpec(height=224, width=224, channels=3, fit=Fit.STRETCH), 1661),
}
"""The input, and as many labels as make a linear layer of that size."""

NGINX = """
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/a;
    uwsgi_temp_path {folder}/b;
    scgi_temp_path {folder}/c;
    keepalive_requests 1000000;
    upstream service {{ server {upstream}; keepalive 64; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{plain};
        listen 127.0.0.1:{tls} ssl;
        ssl_certificate {folder}/pem;
        ssl_certificate_key {folder}/pem;
        location / {{
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""

HAPROXY = """
global
    nbthread 1
defaults
    mode http
    timeout connect 1s
    timeout client 75s
    timeout server 10s
listen service
    bind 127.0.0.1:{plain}
    bind 127.0.0.1:{tls} ssl crt {folder}/pem
    http-reuse always
    server a {upstream}
"""


def digit() -> bytes:
    """A digit as MNIST would hold it, as `make bench` sends them: 28×28, gray, PNG."""
    return forms.png(forms.digits(1)[0])


def on_the_wire(url: str, body: bytes, *, path: str, content_type: str) -> dict[str, int]:
    """Bytes of HTTP of a request as wrk sends it, and of its answer."""
    address = urlsplit(url)
    head = f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: {content_type}\r\n"
    asked = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    with socket.create_connection((address.hostname, address.port or 80)) as connection:
        connection.sendall(asked)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(65536)
        before, _, rest = answer.partition(b"\r\n\r\n")
        assert before.startswith(b"HTTP/1.1 200"), before
        (length,) = re.findall(rb"(?i)content-length: (\d+)", before)
        while len(rest) < int(length):
            rest += connection.recv(65536)
    return {"request": len(asked), "answer": len(before) + 4 + len(rest), "body": len(body)}


def exposed(url: str, body: bytes) -> dict[str, int]:
    """Series of a replica whose models have all been asked, and bytes of a scrape."""
    for model in httpx.get(f"{url}/models").json()["models"]:
        answer = httpx.post(
            f"{url}/models/{model['name']}/predict",
            content=body,
            headers={"Content-Type": "image/png"},
        )
        assert answer.status_code == 200, answer.text
    text = httpx.get(f"{url}/metrics").content
    series = [line for line in text.splitlines() if line and not line.startswith(b"#")]
    buckets = [line for line in series if b"_bucket{" in line]
    return {
        "series": len(series),
        "of histograms": len(buckets),
        "of a model": sum(b'model="digits"' in line for line in series),
        "bytes": len(text),
        "gzipped": len(gzip.compress(text)),
    }


def put_load(url: str, body: Path, *, connections: int, seconds: int = LOAD_SECONDS) -> int:
    """Send the picture again and again with wrk; the requests that were answered."""
    requests = load.write(
        body.with_suffix(".requests"),
        [load.Request("/predict", body.read_bytes(), {"Content-Type": "image/png"})],
    )
    cores = ",".join(map(str, os.sched_getaffinity(0)))
    found = load.wrk(url, requests, connections=connections, seconds=seconds, cores=cores)
    return int(found["requests"])


def queue_gauge(url: str, body: Path) -> dict[int, float]:
    """Connections → the most that `logitserve_queue_pictures` was while they asked."""
    found = {}
    for connections in CONNECTIONS:
        seen: list[float] = []
        done = threading.Event()

        def watch(seen: list[float] = seen, done: threading.Event = done) -> None:
            with httpx.Client(base_url=url, timeout=30) as client:
                while not done.wait(0.2):
                    text = client.get("/metrics").text
                    seen.append(
                        float(re.findall(r'queue_pictures\{model="digits-mlp"\} (\S+)', text)[0])
                    )

        watcher = threading.Thread(target=watch)
        watcher.start()
        put_load(url, body, connections=connections)
        done.set()
        watcher.join()
        found[connections] = max(seen)
    return found


def cpu_seconds(process: psutil.Process) -> float:
    """Of a process and its children, in user and kernel mode."""
    family = [process, *process.children(recursive=True)]
    return float(sum(sum(member.cpu_times()[:2]) for member in family))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


@contextmanager
def proxy(command: list[str], configuration: str, upstream: str) -> Iterator[tuple[Any, int, int]]:
    """A proxy with one worker before the service: its process, its ports without and with TLS."""
    plain, tls = free_ports(2)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                *(
                    "openssl",
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                ),
                *("-nodes", "-keyout", "key", "-out", "certificate", "-subj", "/CN=localhost"),
            ],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        pem = (Path(folder) / "certificate").read_text() + (Path(folder) / "key").read_text()
        (Path(folder) / "pem").write_text(pem)
        file = Path(folder) / "configuration"
        file.write_text(
            configuration.format(folder=folder, upstream=upstream, plain=plain, tls=tls)
        )
        process = subprocess.Popen([*command, str(file)], stderr=subprocess.DEVNULL)
        try:
            until(lambda: _listens(plain))
            yield psutil.Process(process.pid), plain, tls
        finally:
            process.terminate()
            process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def until(holds: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for a state."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError("it did not come to hold")
        time.sleep(0.02)


def proxies(url: str, body: Path) -> dict[str, float]:
    """CPU time in µs that a proxy spends on a request, without and with TLS."""
    upstream = urlsplit(url).netloc
    kinds = {
        "nginx": (["nginx", "-g", "daemon off;", "-c"], NGINX),
        "HAProxy": (["haproxy", "-f"], HAPROXY),
    }
    found = {}
    for name, (command, configuration) in kinds.items():
        with proxy(command, configuration, upstream) as (process, plain, tls):
            for way, target in (
                ("HTTP", f"http://127.0.0.1:{plain}"),
                ("TLS", f"https://127.0.0.1:{tls}"),
            ):
                put_load(target, body, connections=32, seconds=1)
                before = cpu_seconds(process)
                requests = put_load(target, body, connections=32)
                found[f"{name}, {way}"] = (cpu_seconds(process) - before) / requests * 1e6
    return found


def openssl_speed() -> dict[str, float]:
    """Signatures with P-256 of one core in a second: one a handshake."""
    done = subprocess.run(
        ["openssl", "speed", "-seconds", "1", "ecdsap256"],
        capture_output=True,
        text=True,
        check=True,
    )
    (signed,) = re.findall(r"256 bits ecdsa.*?s\s+\S+s\s+([0-9.]+)", done.stdout)
    return {"P-256 signatures": float(signed)}


def looks(models: Path) -> float:
    """System calls a second that name the folder of models, of one worker that rests."""
    with tempfile.TemporaryDirectory() as folder, running("--models", str(models)) as server:
        log = Path(folder) / "log"
        subprocess.run(
            [
                *("timeout", "--preserve-status", str(STRACE_SECONDS)),
                *(
                    "strace",
                    "-f",
                    "-y",
                    "-qq",
                    "-e",
                    "trace=%file,getdents64,fstat",
                    "-o",
                    str(log),
                ),
                *("-p", str(_worker(server))),
            ],
            check=False,
            capture_output=True,
        )
        calls = [line for line in log.read_text().splitlines() if str(models) in line]
    return len(calls) / STRACE_SECONDS


def swap(spec: InputSpec, labels: int) -> dict[str, float]:
    """Memory in MB before, in and after the change to a second version; and its seconds."""
    names = tuple(str(label) for label in range(labels))
    with tempfile.TemporaryDirectory() as folder:
        models, staged = Path(folder) / "models", Path(folder) / "staged"
        for version in ("1", "2"):
            where = models if version == "1" else staged
            tiny_models.publish(
                where, name="large", version=version, labels=names, spec=spec, seed=int(version)
            )
        size = (models / "large" / "1" / MODEL_FILE).stat().st_size
        begun = time.monotonic()
        with running("--models", str(models)) as server:
            started = time.monotonic() - begun
            pid = _worker(server)
            at_start = _memory(pid, "VmHWM")
            time.sleep(2)
            before = _memory(pid, "VmRSS")
            Path(f"/proc/{pid}/clear_refs").write_text("5")
            begun = time.monotonic()
            shutil.move(staged / "large" / "2", models / "large" / "2")
            until(lambda: _version(server.url) == "2")
            seconds = time.monotonic() - begun
            peak = _memory(pid, "VmHWM")
            time.sleep(2)
            after = _memory(pid, "VmRSS")
    return {
        "file": size / 1e6,
        "start seconds": started,
        "peak of start": at_start,
        "before": before,
        "peak": peak,
        "after": after,
        "seconds": seconds,
    }


def _worker(server: Server) -> int:
    """Process id of the one worker."""
    (worker,) = psutil.Process(server.process.pid).children()
    return worker.pid


def _version(url: str) -> str:
    picture = tiny_models.encode(Image.new("RGB", (8, 8)), "PNG")
    answer = httpx.post(
        f"{url}/predict?top_k=1",
        content=picture,
        headers={"Content-Type": "image/png"},
        timeout=60,
    )
    return str(answer.json()["version"])


def _memory(pid: int, field: str) -> float:
    (kilobytes,) = re.findall(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kilobytes) * 1024 / 1e6


def main() -> None:
    models = ROOT / "models"
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "digit.png"
        body.write_bytes(digit())
        with running("--models", str(models), "--default-model", "digits-mlp") as server:
            found: dict[str, Any] = {
                "wire": {
                    "all classes": on_the_wire(
                        server.url, digit(), path="/predict", content_type="image/png"
                    ),
                    "top_k=1": on_the_wire(
                        server.url, digit(), path="/predict?top_k=1", content_type="image/png"
                    ),
                },
                "metrics": exposed(server.url, digit()),
                "queue": queue_gauge(server.url, body),
                "proxy µs": proxies(server.url, body),
            }
    found["openssl"] = openssl_speed()
    found["looks"] = looks(models)
    found["swap"] = {name: swap(spec, labels) for name, (spec, labels) in SIZES.items()}
    found["rates"] = scale.last_rates()
    print(json.dumps(found, indent=1))
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
