"""Who is compared: logitserve, its peers, and the ceiling of the stack."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
PEERS = HERE / "peers"
ENVIRONMENTS = HERE / ".venv"
OURS = "logitserve"
USUAL = "hand-written FastAPI"
CEILING = "bare ASGI on uvicorn"


@dataclass(frozen=True, slots=True)
class Contender:
    """How a server is started, and how it wants its picture."""

    name: str
    command: list[str]
    """`{port}` is replaced."""
    path: str = "/predict"
    body: str = "form"
    """`png`: the file itself; `form`: multipart field `file`; `b64`: KServe v1; `v2`: V2 BYTES."""
    environment: str | None = None
    """Folder below `peers/` whose requirements it runs with; None is this project's own."""
    variables: dict[str, str] = field(default_factory=dict)


def _peer(folder: str, program: str) -> str:
    return str(ENVIRONMENTS / folder / "bin" / program)


def contenders(models: Path) -> list[Contender]:
    """All of them, ours first; `models` is the folder that ours serves."""
    ours = [sys.executable, "-m", "logitserve", "serve", "--models", str(models)]
    quiet = ["--port", "{port}", "--log-level", "warning", "--no-access-log"]
    uvicorn = _peer("fastapi", "uvicorn")
    bento = [_peer("bentoml", "bentoml"), "serve", "server:Digits", "--port", "{port}"]
    return [
        Contender(OURS, [*ours, "--port", "{port}", "--default-model", "digits-mlp"], body="png"),
        Contender(CEILING, [uvicorn, "bare:app", *quiet], body="png", environment="fastapi"),
        Contender(USUAL, [uvicorn, "server:app", *quiet], environment="fastapi"),
        Contender(
            "MLServer",
            [_peer("mlserver", "mlserver"), "start", "."],
            path="/v2/models/digits/infer",
            body="v2",
            environment="mlserver",
            variables={"MLSERVER_HTTP_PORT": "{port}", "MLSERVER_GRPC_PORT": "{port2}"},
        ),
        Contender(
            "KServe SDK",
            [_peer("kserve", "python"), "server.py"],
            path="/v1/models/digits:predict",
            body="b64",
            environment="kserve",
        ),
        Contender("LitServe", [_peer("litserve", "python"), "server.py"], environment="litserve"),
        Contender(
            "BentoML",
            bento,
            environment="bentoml",
            variables={"BENTOML_DO_NOT_TRACK": "True"},
        ),
        Contender(
            "Ray Serve",
            [_peer("rayserve", "python"), "server.py"],
            environment="rayserve",
            variables={"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"},
        ),
    ]
