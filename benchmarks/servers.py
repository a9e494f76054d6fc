"""Which servers are compared, how they are installed, and how they run."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import forms, load

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "benchmarks/peers"
ENVIRONMENTS = ROOT / "benchmarks/.venv"
OURS_PATHS = ROOT, ROOT / "service", ROOT / "training"

OURS = "logitserve"
ASGI = "logitserve under uvicorn"
BY_HAND = "hand-written FastAPI"
MOSEC = "mosec"
BARE = "bare ASGI on uvicorn"


@dataclass(frozen=True, slots=True)
class Server:
    """How a server is started. In command and variables, `{port}` and `{port2}` are free ports."""

    name: str
    command: list[str]
    peer: str | None = None
    """Folder below `peers/` whose requirements it runs with; None is this project's own."""
    variables: Mapping[str, str] = field(default_factory=dict)
    path: str = "/predict"
    encode: forms.Encoder = forms.multipart
    """Of a peer of `others`, which is asked for nothing else."""


def _program(peer: str, name: str) -> str:
    return str(ENVIRONMENTS / peer / "bin" / name)


def _uvicorn(python: str, app: str, *options: str) -> list[str]:
    # Its `auto` takes uvloop and httptools where they are installed, as in both environments.
    quiet = ("--log-level", "warning", "--no-access-log")
    return [python, "-m", "uvicorn", app, "--port", "{port}", *quiet, *options]


def compared(models: Path) -> list[Server]:
    """Those of the table of forms; `models` is the folder that ours serves."""
    python = _program("fastapi", "python")
    settings = {"LOGITSERVE_MODELS": str(models), "LOGITSERVE_DEFAULT_MODEL": forms.DEFAULT}
    mosec = [_program("mosec", "python"), "server.py", "--address", "127.0.0.1"]
    return [
        Server(
            OURS,
            [sys.executable, "-m", "logitserve", "serve", "--port", "{port}"],
            variables=settings,
        ),
        Server(
            ASGI,
            _uvicorn(sys.executable, "logitserve_service.server.asgi:create", "--factory"),
            variables=settings,
        ),
        Server(BY_HAND, _uvicorn(python, "server:app"), "fastapi"),
        Server(MOSEC, [*mosec, "--port", "{port}", "--log-level", "warning"], "mosec"),
        Server(BARE, _uvicorn(python, "bare:app"), "fastapi"),
    ]


def others() -> list[Server]:
    """Model servers that take an image as their users send it, in one form each."""
    return [
        Server(
            "MLServer",
            [_program("mlserver", "mlserver"), "start", "."],
            "mlserver",
            {"MLSERVER_HTTP_PORT": "{port}", "MLSERVER_GRPC_PORT": "{port2}"},
            "/v2/models/digits/infer",
            forms.v2_bytes,
        ),
        Server(
            "KServe SDK",
            [_program("kserve", "python"), "server.py"],
            "kserve",
            path="/v1/models/digits:predict",
            encode=forms.v1_b64,
        ),
        Server("LitServe", [_program("litserve", "python"), "server.py"], "litserve"),
        Server(
            "BentoML",
            [_program("bentoml", "bentoml"), "serve", "server:Digits", "--port", "{port}"],
            "bentoml",
            {"BENTOML_DO_NOT_TRACK": "True"},
        ),
        Server(
            "Ray Serve",
            [_program("rayserve", "python"), "server.py"],
            "rayserve",
            {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"},
        ),
    ]


def install(peer: str) -> None:
    """A virtual environment for the peer, from its locked requirements."""
    uv = Path(sys.executable).with_name("uv")
    requirements = PEERS / peer / "requirements.txt"
    folder = ENVIRONMENTS / peer
    stamp = folder / ".installed"
    if stamp.exists() and stamp.stat().st_mtime > requirements.stat().st_mtime:
        return
    print(f"installing {peer}", flush=True)
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


@contextmanager
def started(
    server: Server, files: Mapping[str, Path], ready: load.Request
) -> Iterator[load.Running]:
    """The server, once it has answered the request.

    Args:
        server: to start.
        files: name of a model → its file.
        ready: answered with 200 once the server is ready.

    Raises:
        RuntimeError: it ended, or does not answer.
    """
    port, second = load.free_port(), load.free_port()

    def filled(text: str) -> str:
        return text.replace("{port2}", str(second)).replace("{port}", str(port))

    environment = {
        "MODELS": json.dumps({name: str(file) for name, file in files.items()}),
        "MODEL": str(files[forms.DEFAULT]),
        "DEFAULT_MODEL": forms.DEFAULT,
        "PORT": str(port),
        "PYTHONPATH": os.pathsep.join(map(str, (PEERS,) if server.peer else OURS_PATHS)),
        **{name: filled(value) for name, value in server.variables.items()},
    }
    folder = PEERS / server.peer if server.peer else ROOT
    command = [filled(part) for part in server.command]
    with load.running(command, port, ready, environment=environment, folder=folder) as running:
        yield running
