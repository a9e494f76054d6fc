"""`/models/{name}/drift`: the drift state, and the baseline."""

from fastapi import APIRouter, Depends, Request

from logitserve.inference.naming import unknown
from logitserve_service.api.call import Limits
from logitserve_service.api.openapi import BASELINE_BODY, problems
from logitserve_service.api.schemas import DriftReport
from logitserve_service.errors import UnusableRequestError, WatchOffError
from logitserve_service.http import routes
from logitserve_service.http.repository import RequireAdmin, members
from logitserve_service.http.routes import ModelOfPath
from logitserve_service.monitoring.drift import Drift
from logitserve_service.repository.loaded_model import LoadedModel

REFERENCES = ("live", "card")


def router(drift: Drift | None, require_admin: RequireAdmin, limits: Limits) -> APIRouter:
    """Make the drift routes; if drift detection is off, they explain how to turn it on."""
    router = APIRouter(prefix="/models", tags=["models"])

    def report(model: LoadedModel) -> DriftReport:
        if drift is None:
            raise WatchOffError
        watch, state = drift.of(model.predictor)
        return DriftReport.of(watch, state)

    async def show_drift(model: ModelOfPath) -> DriftReport:
        """Drift state: images and predictions of all workers, compared with the baseline."""
        return report(model)

    async def accept_drift(request: Request, model: ModelOfPath) -> DriftReport:
        """Set the baseline: the last 2,000 images (`live`, the default) or the card's reference."""
        given = (await members(request, limits, "reference")).get("reference", "live")
        if given not in REFERENCES:
            raise UnusableRequestError(unknown("reference", str(given), REFERENCES))
        if drift is not None:
            drift.accept(model.predictor, live=given == "live")
        return report(model)

    routes.add(router, "/{name}/drift", show_drift, responses=problems(404, 503))
    routes.add(
        router,
        "/{name}/drift/baseline",
        accept_drift,
        methods=("POST",),
        dependencies=[Depends(require_admin)],
        responses=problems(400, 401, 403, 404, 408, 409, 413, 422, 503),
        openapi_extra=BASELINE_BODY,
    )
    return router
