"""Build the parts of a serving process."""

import os
import resource
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

from logitserve.inference.predictor import Predictor
from logitserve.inference.repository import ModelRepository, OneModelRepository
from logitserve.inference.runtime import available_cpus
from logitserve_service.api.call import Limits
from logitserve_service.config.origins import parse_origins
from logitserve_service.config.proxies import Proxies
from logitserve_service.config.settings import Settings
from logitserve_service.config.version_policy import VersionPolicy
from logitserve_service.execution.batcher import Batcher
from logitserve_service.execution.explainer import Start, StartRequests, spawned
from logitserve_service.execution.preprocessing import Decoders
from logitserve_service.http.admission import Admission, BodyBudget
from logitserve_service.http.app import Parts, create_documents
from logitserve_service.http.asgi import AsgiApplication, Background
from logitserve_service.http.auth import Authenticator
from logitserve_service.http.cors import Cors
from logitserve_service.http.documents import Documents
from logitserve_service.http.endpoint import Endpoint
from logitserve_service.http.probes import GRPC_PROBES, PROBES, UNLIMITED, Readiness
from logitserve_service.http.quality import StoreAccess
from logitserve_service.monitoring.drift import Drift
from logitserve_service.monitoring.maintenance import store_writer_of
from logitserve_service.monitoring.receipts import Receipts
from logitserve_service.monitoring.store import Store
from logitserve_service.monitoring.windows import Rule
from logitserve_service.periodically import periodically
from logitserve_service.repository.catalog import Catalog
from logitserve_service.repository.loaded_model import VersionState
from logitserve_service.repository.loader import Loader
from logitserve_service.repository.shared_state import SharedState
from logitserve_service.repository.watcher import Watcher
from logitserve_service.server import connections as connection_limits
from logitserve_service.server import memory
from logitserve_service.server.connections import Connections
from logitserve_service.server.drain import Drain
from logitserve_service.server.tls import Certificate
from logitserve_service.telemetry.access_log import AccessLog
from logitserve_service.telemetry.failure_log import FailureLog
from logitserve_service.telemetry.families import LOAD_FAILURES, LOST_LINES, SHADOW
from logitserve_service.telemetry.metrics import Metrics
from logitserve_service.telemetry.recorder import Recorder
from logitserve_service.telemetry.shared_values import Row, shared_rows
from logitserve_service.telemetry.tracing import tracing
from logitserve_service.telemetry.worker_gauges import (
    LAG_SECONDS,
    SAMPLE_SECONDS,
    Sample,
    WorkerGauges,
)

MAX_BUFFERED_BYTES = 96 * 2**20
"""Default budget of all request bodies, if memory permits."""
TRIM_SECONDS = 1.0
QUIET_ROUTES = UNLIMITED | GRPC_PROBES
"""Routes that monitoring calls every few seconds; logged only at level debug."""


@dataclass(frozen=True)
class Shared:
    """Memory shared by all processes of the service; allocated before they are forked."""

    rows: Sequence[Row]
    """Metric rows of the workers and of their parent."""
    state: SharedState
    explainers: StartRequests = field(default_factory=StartRequests)
    """Requests of workers to start a process that computes explanations."""
    secret: bytes = field(default_factory=lambda: os.urandom(32))
    """Signs receipts if no key is set."""

    @classmethod
    def of(cls, workers: int) -> Self:
        """Allocate the memory for a number of workers."""
        return cls(shared_rows(workers + 1), SharedState())


@dataclass(frozen=True)
class Process:
    """The parts of a serving process."""

    catalog: Catalog
    connections: Connections
    endpoint: Endpoint
    asgi: AsgiApplication
    certificate: Certificate
    reread: Callable[[], None]
    """Reads the keys and the folder of models again."""

    @classmethod
    def of(
        cls,
        settings: Settings,
        shared: Shared,
        drain: Drain,
        *,
        number: int = 0,
        start_explainer: Start = spawned,
    ) -> Self:
        """Load the models and build the application of the worker with this number.

        Raises the errors of `worker.run`.
        """
        metrics = Metrics(shared.rows, number)
        drift = _drift(settings, metrics, shared)
        store = None if settings.store is None else Store(settings.store)
        store_writer = None if store is None else store_writer_of(settings, store, metrics, number)
        receipts = None
        if settings.receipts or store is not None:
            keys = settings.keys("receipts_key")
            receipts = Receipts([shared.secret] if keys is None else keys.secrets, store_writer)
        kept = None
        if store is not None and receipts is not None:
            kept = StoreAccess(store, receipts, settings.store_days)
        models = loader(settings, metrics, shared.state, drift=drift, receipts=receipts)
        catalog = Catalog.load(models, default=settings.default_model)
        proxies = Proxies(settings.forwarded_allow_ips)
        connections = Connections(_connection_limits(settings), drain, proxies)
        readiness = Readiness(catalog, lambda: drain.begun)
        gauges = WorkerGauges(
            metrics,
            lambda: _sample(catalog, connections, readiness),
            memory_limit=memory.limit(),
        )
        background: list[Background] = [
            lambda: periodically(SAMPLE_SECONDS, gauges.sample),
            lambda: periodically(LAG_SECONDS, gauges.tick),
            lambda: periodically(SAMPLE_SECONDS, readiness.log),
        ]
        if drift is not None:
            background.append(lambda: periodically(SAMPLE_SECONDS, drift.sample))
        if store_writer is not None:
            background.append(store_writer.running)
        recorder = _recorder(settings, metrics, background)
        watcher = Watcher(catalog, watch_seconds=settings.watch_seconds)
        background.append(watcher.running)
        authenticator = Authenticator.of(settings)
        limits = Limits(settings.max_pictures, settings.max_json_values)
        most = memory.share(settings.workers, memory.BODIES_SHARE)
        budget = BodyBudget(
            max_bytes=settings.max_body_bytes,
            max_total_bytes=settings.max_buffered_bytes or min(MAX_BUFFERED_BYTES, most),
        )
        parts = Parts(
            catalog,
            readiness,
            authenticator,
            watcher,
            metrics,
            gauges,
            limits,
            drift,
            kept,
            start_explainer,
        )
        endpoint = Endpoint(
            catalog=catalog,
            documents=Documents(create_documents(parts), settings.root_path),
            admission=Admission(authenticator, budget, settings.request_timeout_ms),
            limits=limits,
            cors=Cors(parse_origins(settings.cors_origins)),
            recorder=recorder,
            root_path=settings.root_path,
            keeps=store is not None,
        )
        trimmer = memory.Trimmer(lambda: budget.released, endpoint.parser)
        background.append(lambda: periodically(TRIM_SECONDS, trimmer.check))
        certificate = Certificate(settings)
        if settings.grpc_port is not None:
            from logitserve_service.server import grpc, grpc_server  # needs the extra `grpc`

            calls = grpc.Parts(settings, endpoint, readiness, drain, trimmer, metrics, certificate)
            background.append(lambda: grpc_server.running(calls))

        def reread() -> None:
            authenticator.reread()
            watcher.reread()

        asgi = AsgiApplication(endpoint, background)
        return cls(catalog, connections, endpoint, asgi, certificate, reread)


def _drift(settings: Settings, metrics: Metrics, shared: Shared) -> Drift | None:
    if not settings.watch:
        return None
    rule = Rule(settings.drift_false_alarm_every, settings.drift_floor)
    return Drift(metrics, shared.rows, shared.state.notes, rule)


def loader(
    settings: Settings,
    metrics: Metrics,
    shared: SharedState,
    *,
    drift: Drift | None = None,
    receipts: Receipts | None = None,
) -> Loader:
    """Return a loader with the repository, version policy and threads of the settings."""
    cpus = available_cpus()
    most = settings.max_decoded_bytes or memory.share(settings.workers, memory.IMAGES_SHARE)
    decoders = Decoders(max(2, cpus), most)

    def make_batcher(predictor: Predictor) -> Batcher:
        return Batcher(
            predictor,
            max_queue=settings.max_queue,
            max_pixels=settings.max_pixels,
            decoders=decoders,
            metrics=metrics.model(predictor.card),
            watch=None if drift is None else drift.watch(predictor),
            issue=None if receipts is None else receipts.of(predictor.card),
        )

    folder, name = settings.models, settings.model_name
    return Loader(
        ModelRepository(folder) if name is None else OneModelRepository(folder, name),
        VersionPolicy.parse(settings.version_policy),
        make_batcher,
        shared,
        count_failure=lambda name: metrics.add(LOAD_FAILURES, 1, name),
        count_shadow=lambda card, outcome, images: metrics.add(
            SHADOW, images, card.name, card.version, outcome
        ),
        weigh=lambda size: memory.too_large(size, settings),
        threads=settings.threads or max(1, cpus // settings.workers),
    )


def _connection_limits(settings: Settings) -> connection_limits.Limits:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    left = files - connection_limits.FEWEST_FILES - settings.max_connections
    most = connection_limits.EXTRA_CONNECTIONS
    return connection_limits.Limits(
        connections=settings.max_connections,
        header_seconds=settings.header_timeout_seconds,
        body_seconds=settings.body_timeout_seconds,
        keep_alive_seconds=settings.keep_alive_seconds,
        request_seconds=settings.request_timeout_ms / 1000,
        extra=most if files == resource.RLIM_INFINITY else max(1, min(most, left)),
    )


def _recorder(settings: Settings, metrics: Metrics, background: list[Background]) -> Recorder:
    access_log = None
    metrics.add(LOST_LINES, 0)  # the counter must exist before its first increase
    if settings.access_log:
        access_log = AccessLog(
            sys.stdout.fileno(), settings.log_format, lambda lines: metrics.add(LOST_LINES, lines)
        )
        background.append(access_log.running)
    failure_log = FailureLog(PROBES | GRPC_PROBES)
    background.append(failure_log.running)
    spans = tracing()
    if spans is not None:
        background.append(spans.running)
    return Recorder(
        metrics,
        access_log=access_log,
        tracing=spans,
        failure_log=failure_log,
        quiet_routes=QUIET_ROUTES,
        log_quiet_routes=settings.log_level == "debug",
    )


def _sample(catalog: Catalog, connections: Connections, readiness: Readiness) -> Sample:
    queues = dict.fromkeys(catalog.models, 0)
    served = set()
    for name, versions in catalog.models.items():
        for model in versions.values():
            queues[name] += model.batcher.waiting
            served.add((name, model.card.version, model.predictor.sha256))
    states = Counter(
        (name, _state_of(state, is_unloaded=entry.unloaded))
        for name, entry in catalog.folder.items()
        for state in entry.states.values()
    )
    return Sample(len(connections), readiness.ready, memory.available(), queues, served, states)


def _state_of(state: VersionState, *, is_unloaded: bool) -> str:
    """Return the state for the metrics; a refused version may still be served from an old file."""
    if is_unloaded or state.by_policy:
        return "idle"
    if state.reason:
        return "refused"
    return state.state.lower()
