"""Whether the process may be sent requests."""

from logitserve_service.errors import NotReadyError
from logitserve_service.repository.catalog import Catalog
from logitserve_service.server.drain import Drain


class Readiness:
    """Ready is who has a model to answer with and was not told to stop."""

    def __init__(self, catalog: Catalog, drain: Drain) -> None:
        self._catalog = catalog
        self._drain = drain

    @property
    def ready(self) -> bool:
        """Whether requests may come."""
        return self._catalog.ready and not self._drain.begun

    def check(self) -> None:
        """Say why not.

        Raises:
            NotReadyError: no model is loaded, or the process is stopping.
        """
        if self._drain.begun:
            raise NotReadyError("the service is stopping")
        if not self._catalog.ready:
            raise NotReadyError("no model is loaded")
