"""Entry point of the service: it binds the ports, and starts and stops the workers."""

import errno
import functools
import gc
import logging
import os
import resource
import socket
from pathlib import Path

from logitserve.inference.runtime import load_onnxruntime
from logitserve_service.config.settings import Settings, environment_name
from logitserve_service.errors import SettingsError, StartError
from logitserve_service.monitoring.store import Store
from logitserve_service.server import tls, worker
from logitserve_service.server.assembly import Shared
from logitserve_service.server.connections import EXTRA_CONNECTIONS, FEWEST_FILES
from logitserve_service.server.drain import Drain, refuse_handshakes
from logitserve_service.server.supervisor import Supervisor
from logitserve_service.server.worker import BACKLOG, Serving
from logitserve_service.telemetry import logs

SPARE_FILES = 200
"""Open files of a process besides its connections: models, logs, other sockets."""

logger = logging.getLogger("logitserve.server")


def serve(settings: Settings) -> None:
    """Serve until stopped; raises like `worker.run` and `bind`."""
    logs.configure(settings.log_format, settings.log_level)
    tls.context(settings)  # fails early for an invalid file
    if settings.linger_seconds >= settings.drain_seconds:
        problem = f"must be less than drain_seconds, which is {settings.drain_seconds:g}"
        raise SettingsError("linger_seconds", problem, settings.linger_seconds)
    uds = settings.uds
    listener = bind(settings.host, settings.port) if uds is None else bind_uds(uds)
    try:
        _supervise(settings, listener)
    finally:
        if uds is not None and listener.fileno() >= 0:  # the supervisor must not close it
            refuse_handshakes(listener)


def _supervise(settings: Settings, listener: socket.socket) -> None:
    if settings.grpc_port is not None:
        # Held until the process ends, so that no other process can bind the port between two
        # workers.
        grpc_port = reserve_grpc_port(settings.host, settings.grpc_port)
        settings = settings.model_copy(update={"grpc_port": grpc_port.getsockname()[1]})
    settings = _fit_files(settings)
    shared = Shared.of(settings.workers)
    if settings.store is not None:
        Store(settings.store)  # fails early for an invalid store
    if (settings.receipts or settings.store) and settings.keys("receipts_key") is None:
        text = "prediction ids are valid only until this service stops, because %s is not set"
        logger.warning(text, environment_name("receipts_key"))
    load_onnxruntime()  # imported once for all workers
    gc.freeze()
    supervisor = Supervisor(
        functools.partial(worker.run, settings, listener, shared),
        settings.workers,
        shared,
        listener=listener,
        drain=Drain(linger_seconds=settings.linger_seconds, drain_seconds=settings.drain_seconds),
        timeout_seconds=settings.worker_timeout_seconds,
    )
    supervisor.run(functools.partial(_announce, settings, listener))


def bind(host: str, port: int, *, option: str = "--port") -> socket.socket:
    """Listen on the port; a StartError names the option to change."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server(
            (host, port),
            family=family,
            backlog=BACKLOG,
            dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
        )
    except (OSError, OverflowError) as error:
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number else error
        is_taken = number == errno.EADDRINUSE
        hint = f" (`ss -ltnp sport = :{port}` shows the process that uses it)" if is_taken else ""
        raise StartError(
            f"cannot listen on {host}:{port}: {reason}; choose another with {option} or --host"
            f"{hint}"
        ) from error


def bind_uds(path: Path) -> socket.socket:
    """Listen on a Unix socket; a stale socket file is replaced.

    Raises:
        StartError: another process listens on it, or it cannot be created.
    """
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(0)
            if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
                raise StartError(f"another process listens on {path}; choose another with --uds")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        path.chmod(0o666)  # as in uvicorn: the permissions of the folder control access
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartError(
            f"cannot listen on {path}: {error.strerror or error}; choose another with --uds"
        ) from error
    return listener


def reserve_grpc_port(host: str, port: int) -> socket.socket:
    """Bind the gRPC port without listening; each worker listens on it (SO_REUSEPORT)."""
    try:
        import grpc  # noqa: F401
        import grpc_health  # noqa: F401
        import grpc_reflection  # noqa: F401
    except ImportError as error:
        raise StartError(
            "--grpc-port (LOGITSERVE_GRPC_PORT) needs packages that are missing; install them "
            "with pip install 'logitserve[grpc]'"
        ) from error
    # First without SO_REUSEPORT, which fails if another server uses the port.
    with bind(host, port, option="--grpc-port") as free:
        address = free.getsockname()
    reserved = socket.socket(free.family)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(address)
    return reserved


def _fit_files(settings: Settings) -> Settings:
    """Raise the limit on open files up to the hard limit, and lower settings that need more.

    Raises:
        StartError: the limit is too low for a single connection.
    """
    wanted = settings.max_connections + EXTRA_CONNECTIONS + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return settings
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return settings
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    left = hard - FEWEST_FILES
    if left < 2:
        least = FEWEST_FILES + 2
        raise StartError(f"a process may have {hard} open files (ulimit -n), but needs {least}")
    connections = min(settings.max_connections, left - min(EXTRA_CONNECTIONS, left // 2))
    if connections < settings.max_connections:
        text = "a process may have %d open files (ulimit -n): %s is lowered from %d to %d"
        name = environment_name("max_connections")
        logger.warning(text, hard, name, settings.max_connections, connections)
    return settings.model_copy(update={"max_connections": connections})


def _announce(settings: Settings, listener: socket.socket, serving: Serving) -> None:
    if settings.grpc_port is not None:
        logger.info("serving gRPC on port %d", settings.grpc_port)
    if settings.uds is not None:
        address = f"unix:{settings.uds}"
    else:
        host, port = listener.getsockname()[:2]
        scheme = "http" if settings.tls_certificate is None else "https"
        address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    text = "serving %s on %s (default model: %s; documentation: /docs)"
    logger.info(text, ", ".join(serving.models), address, serving.default or "none")
