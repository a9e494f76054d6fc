"""The service as an ASGI application for any ASGI server.

    uvicorn --factory logitserve_service.server.asgi:create

Settings come from environment variables. The ASGI server provides limits on slow clients, graceful
shutdown and workers; `logitserve serve` has its own and is faster (docs/architecture.md).
"""

from logitserve_service.config.settings import Settings
from logitserve_service.http.asgi import AsgiApplication
from logitserve_service.server.assembly import Process, Shared
from logitserve_service.server.drain import Drain


def create() -> AsgiApplication:
    """Load the models and build the application.

    Raises:
        StartError, NoModelsError, ModelFileError: as in `worker.run`.
    """
    settings = Settings.read({})
    drain = Drain(linger_seconds=settings.linger_seconds, drain_seconds=settings.drain_seconds)
    return Process.of(settings, Shared.of(1), drain).asgi
