"""The servers that tests share: each is started when a test first needs it, once a test process.

A test that stops, kills or starts a server, or changes its models, starts its own with `running`.
"""

from collections.abc import Callable
from pathlib import Path

from logitserve_service.config.settings import PLATFORM_VARIABLES
from tests.e2e.process import clean_environment

ROOT = Path(__file__).parents[2]

MAX_BODY_BYTES, MAX_IMAGES, MAX_PIXELS = 2_000_000, 200, 1_000_000
"""Of most profiles."""
MAX_CONNECTIONS = 16
HEADER_SECONDS, BODY_SECONDS = 0.6, 1.5
STRICT_BODY_BYTES = 1_000_000
"""Of the strict profile."""

PROBES = {
    *("/livez", "/readyz", "/startupz", "/healthz", "/health", "/ping"),
    *("/v2/health/live", "/v2/health/ready"),
}

SETTINGS = {
    "images": "LOGITSERVE_MAX_PICTURES",
    "queue": "LOGITSERVE_MAX_QUEUE",
    "body": "LOGITSERVE_MAX_BODY_BYTES",
    "pixels": "LOGITSERVE_MAX_PIXELS",
    "buffered": "LOGITSERVE_MAX_BUFFERED_BYTES",
    "connections": "LOGITSERVE_MAX_CONNECTIONS",
    "timeout": "LOGITSERVE_REQUEST_TIMEOUT_MS",
}
"""What error messages call the settings behind limits."""

LIMITS = (
    *("--version-policy", "all", "--max-body-bytes", f"{MAX_BODY_BYTES}"),
    *("--max-pictures", f"{MAX_IMAGES}", "--max-pixels", f"{MAX_PIXELS}"),
)
DECODED_BYTES = 300_000_000
FRIEND = "https://friend.example"
OLD_KEY, NEW_KEY, ADMIN_KEY = "old-key-1", "new-key-2", "admin-key-3"

Profile = Callable[[str, str], tuple[tuple[str, ...], dict[str, str]]]


def plain(folder: str, _: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """One worker, gRPC, access log as JSON; variables that are empty, as compose passes them on."""
    logs = ("--access-log", "true", "--log-format", "json")
    empty = dict.fromkeys((*PLATFORM_VARIABLES, "LOGITSERVE_THREADS"), "")
    return ("--models", folder, "--grpc-port", "0", *LIMITS, *logs), clean_environment(**empty)


def pair(folder: str, _: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Two workers."""
    return ("--models", folder, "--workers", "2", *LIMITS), clean_environment()


def strict(folder: str, _: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """A queue of one image, memory for one body, and little patience."""
    limits = (
        *("--max-queue", "1", "--max-buffered-bytes", "1", "--grpc-port", "0"),
        *("--max-body-bytes", f"{STRICT_BODY_BYTES}", "--max-connections", f"{MAX_CONNECTIONS}"),
        *("--header-timeout-seconds", f"{HEADER_SECONDS}", "--keep-alive-seconds", "1.2"),
        *("--body-timeout-seconds", f"{BODY_SECONDS}"),
    )
    return ("--models", folder, *limits), clean_environment()


def locked(folder: str, _: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Two API keys, an admin key, gRPC, cross-origin requests."""
    environment = clean_environment(
        LOGITSERVE_API_KEY=f"{OLD_KEY},{NEW_KEY}",
        LOGITSERVE_ADMIN_KEY=ADMIN_KEY,
        LOGITSERVE_LOG_LEVEL="debug",
    )
    options = ("--access-log", "true", "--grpc-port", "0")
    origins = ("--cors-origins", f"{FRIEND} http://localhost:3000")
    return ("--models", folder, *LIMITS, *options, *origins), environment


def traced(folder: str, collector: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Access log, spans, cross-origin requests."""
    environment = clean_environment(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector,
        OTEL_EXPORTER_OTLP_COMPRESSION="none",
        OTEL_BSP_SCHEDULE_DELAY="100",
    )
    logs = ("--access-log", "true", "--log-format", "json", "--grpc-port", "0")
    return ("--models", folder, *LIMITS, *logs, "--cors-origins", FRIEND), environment


def shipped(_: str, __: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """The models of the repository, with the settings of a small container."""
    decoded = ("--max-decoded-bytes", f"{DECODED_BYTES}")
    return ("--models", str(ROOT / "models"), *decoded), clean_environment()


PROFILES: dict[str, Profile] = {
    profile.__name__: profile for profile in (plain, pair, strict, locked, traced, shipped)
}
