"""The process: bind, load, serve."""

import functools
import gc
import logging
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import LOGGING_CONFIG
from uvicorn.supervisors import Multiprocess

from inference.repository import ModelRepository
from inference.runtime import available_cpus
from service.app import create_app
from service.catalog import Catalog
from service.coordination import Coordination
from service.errors import StartError
from service.loading import Loader
from service.settings import Settings
from service.version_policy import VersionPolicy

BACKLOG = 2048

_LOGGING: dict[str, Any] = {
    **LOGGING_CONFIG,
    "loggers": {
        **LOGGING_CONFIG["loggers"],
        "logitserve": {"handlers": ["default"], "level": "INFO", "propagate": False},
        # Its lines on starting and stopping repeat ours.
        "uvicorn.error": {"level": "WARNING"},
    },
}

logger = logging.getLogger("logitserve.server")


def serve(settings: Settings) -> None:
    """Serve until told to stop.

    Raises:
        StartError: the port is taken, or the default model is not there.
        NoModelsError: the folder of models is missing or empty.
        ModelFileError: one of the models must not be served.
    """
    for stop in (signal.SIGINT, signal.SIGTERM):
        # uvicorn takes these over while it serves, and raises them again when it has drained.
        signal.signal(stop, lambda *_: sys.exit(0))
    listener = bind(settings.host, settings.port)
    if settings.grpc_port is not None:
        # Held until the process ends: nobody else gets the port between two workers.
        grpc_port = reserve_grpc_port(settings.host, settings.grpc_port)
        settings = settings.model_copy(update={"grpc_port": grpc_port.getsockname()[1]})
    with tempfile.TemporaryDirectory(prefix="logitserve-") as shared:
        _serve(settings, listener, Path(shared))


def _serve(settings: Settings, listener: socket.socket, shared: Path) -> None:
    catalog = load_catalog(settings, shared)
    if settings.workers == 1:
        config = _config(settings, functools.partial(_long_lived_app, settings, catalog, shared))
    else:
        # Each worker loads the models again; here they were loaded so that a broken one stops
        # the start.
        config = _config(settings, functools.partial(_worker_app, settings, shared))
    _announce(settings, listener, catalog)
    if settings.workers == 1:
        uvicorn.Server(config).run(sockets=[listener])
    else:
        del catalog
        Multiprocess(config, sockets=[listener]).run()


def bind(host: str, port: int, *, option: str = "--port") -> socket.socket:
    """Take the port that an option gave.

    Raises:
        StartError: it is taken, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise StartError(
            f"cannot listen on {host}:{port}: {reason}; choose another with {option} or --host"
        ) from error
    listener.set_inheritable(True)
    return listener


def reserve_grpc_port(host: str, port: int) -> socket.socket:
    """Take the port for gRPC, but do not listen: each worker does (SO_REUSEPORT).

    Raises:
        StartError: gRPC is not installed, the port is taken, or the address is none of this
            machine's.
    """
    try:
        import grpc  # noqa: F401
    except ImportError as error:
        raise StartError(
            "--grpc-port (LOGITSERVE_GRPC_PORT) needs gRPC, which is not installed; install it "
            "with pip install 'logitserve[grpc]'"
        ) from error
    # First without sharing, which fails where another server has the port.
    with bind(host, port, option="--grpc-port") as free:
        address = free.getsockname()
    reserved = socket.socket(free.family)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(address)
    return reserved


def load_catalog(settings: Settings, shared: Path) -> Catalog:
    """Load the models that the settings name.

    Args:
        settings: of the service.
        shared: a folder that the workers of this service share; it goes when the service ends.
    """
    threads = settings.threads or max(1, available_cpus() // settings.workers)
    loader = Loader(
        ModelRepository(settings.models),
        VersionPolicy.parse(settings.version_policy),
        threads=threads,
        max_queue=settings.max_queue,
    )
    return Catalog.load(loader, Coordination(shared), default=settings.default_model)


def _announce(settings: Settings, listener: socket.socket, catalog: Catalog) -> None:
    host, port = listener.getsockname()[:2]
    if settings.grpc_port is not None:
        logger.info("serving gRPC on port %d", settings.grpc_port)
    logger.info(
        "serving %s on http://%s:%d (default model: %s; documentation: /docs)",
        ", ".join(catalog.models),
        f"[{host}]" if ":" in host else host,
        port,
        catalog.default or "none",
    )


def _long_lived_app(settings: Settings, catalog: Catalog, shared: Path) -> ASGIApp:
    app = create_app(settings, catalog, shared=shared)
    # What has been made so far lives as long as the process; the collector need not walk it again.
    gc.collect()
    gc.freeze()
    return app


def _worker_app(settings: Settings, shared: Path) -> ASGIApp:
    return _long_lived_app(settings, load_catalog(settings, shared), shared)


def _config(settings: Settings, app: functools.partial[ASGIApp]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        log_config=_LOGGING,
        log_level=settings.log_level,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=settings.access_log,
        # The client's address is used for nothing but the access log.
        proxy_headers=settings.access_log,
        lifespan="on",
        server_header=False,
    )
