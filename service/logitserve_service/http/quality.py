"""Routes of true labels, the store and the quality of answers."""

import asyncio
import re
import time
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request

from logitserve.inference.errors import ModelNotFoundError
from logitserve.inference.naming import LONGEST_NAME, absent
from logitserve_service.api.call import Limits
from logitserve_service.api.json_limits import read_json
from logitserve_service.api.openapi import FEEDBACK_BODY, problems
from logitserve_service.api.schemas import StoreInfo
from logitserve_service.errors import StoreUnsetError, UnusableRequestError
from logitserve_service.http.repository import RequireAdmin
from logitserve_service.monitoring import feedback
from logitserve_service.monitoring.feedback import MAX_LABELS, NO_ID, Counts, Outcome
from logitserve_service.monitoring.quality import Quality, measure
from logitserve_service.monitoring.receipts import Receipts, bytes_of, receipt_of
from logitserve_service.monitoring.store import BUSY_SECONDS, Store
from logitserve_service.repository.catalog import Catalog
from logitserve_service.telemetry.families import FEEDBACK
from logitserve_service.telemetry.metrics import Metrics

SETTLED_SECONDS: Final = BUSY_SECONDS + 2
"""Seconds after which an answer has been written or dropped."""
_DAYS: Final = {"h": 1 / 24, "d": 1, "w": 7}
_WINDOW: Final = re.compile(r"([1-9][0-9]{0,3})([hdw])")


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """The store and receipts of the service."""

    store: Store
    receipts: Receipts
    days: float


async def _here(request: Request) -> StoreAccess:
    kept: StoreAccess | None = request.app.state.kept
    if kept is None:
        raise StoreUnsetError
    return kept


Here = Annotated[StoreAccess, Depends(_here)]
"""A FastAPI dependency: the store. Raises StoreUnsetError if there is none."""


def router(
    catalog: Catalog, require_admin: RequireAdmin, limits: Limits, metrics: Metrics
) -> APIRouter:
    """Make the routes `/feedback`, `/store` and `/models/{name}/quality`."""
    routes = APIRouter(tags=["feedback and quality"])
    admin = [Depends(require_admin)]
    many = Limits(MAX_LABELS, limits.json_values)

    @routes.post(
        "/feedback", responses=problems(400, 403, 408, 413, 422, 503), openapi_extra=FEEDBACK_BODY
    )
    async def send_feedback(request: Request, here: Here) -> Outcome:
        """Send true labels by prediction id: at any time, in any order, and repeatedly."""
        content = await request.body(), request.headers.get("content-type", ""), many
        outcome, counts = await asyncio.to_thread(_take, here, *content)
        for (model, became), count in counts.items():
            metrics.add(FEEDBACK, count, model, became)
        return outcome

    @routes.get("/store", dependencies=admin, responses=problems(401, 403, 503))
    async def show_store(here: Here) -> StoreInfo:
        """Size and row counts of the store."""
        return StoreInfo(**await asyncio.to_thread(here.store.info))

    @routes.delete("/store/{id}", dependencies=admin, responses=problems(401, 403, 404, 422, 503))
    async def erase_answer(
        here: Here, identity: Annotated[str, Path(alias="id")]
    ) -> dict[str, int]:
        """Erase an answer, its picture and labels without a trace; return the number of rows."""
        raw = bytes_of(identity)  # also if the key that signed it has been removed
        if raw is None:
            raise UnusableRequestError(NO_ID)
        # An answer of the last seconds may still be queued.
        age = max(0.0, time.time() - receipt_of(raw).at)
        await asyncio.sleep(SETTLED_SECONDS - age)
        rows = await asyncio.to_thread(here.store.erase, raw)
        if not rows:
            raise ModelNotFoundError("the store has no data of this prediction")
        return {"rows": rows}

    @routes.get("/models/{name}/quality", responses=problems(401, 403, 404, 422, 503))
    async def show_quality(
        here: Here,
        name: str,
        window: Annotated[str, Query(description="period such as 12h, 7d, 4w")] = "7d",
        version: Annotated[
            str | None, Query(description="version; default: the live version")
        ] = None,
    ) -> Quality:
        """Quality of the answers whose true label is known."""
        if version is None and (live := catalog.live.get(name)) is not None:
            version = live.card.version
        return await asyncio.to_thread(_measure, here.store, name, version, _days(window))

    return routes


def _days(window: str) -> float:
    found = _WINDOW.fullmatch(window)
    if found is None:
        raise UnusableRequestError(
            f"window is {window[:LONGEST_NAME]!r}; it must be hours, days or weeks, such as 12h, "
            "7d or 4w, at most 9999"
        )
    return int(found[1]) * _DAYS[found[2]]


def _measure(store: Store, name: str, version: str | None, days: float) -> Quality:
    cards = {card.version: card for card in store.models().values() if card.name == name}
    if not cards:
        names = {card.name for card in store.models().values()}
        raise ModelNotFoundError(absent("model", name, sorted(names), " in the store"))
    version = max(cards, key=int) if version is None else version
    if version not in cards:
        raise ModelNotFoundError(absent("version", version, cards, f" of {name!r} in the store"))
    return measure(store, cards[version], days)


def _take(here: StoreAccess, body: bytes, kind: str, limits: Limits) -> tuple[Outcome, Counts]:
    if "jsonl" in kind or "ndjson" in kind:
        body = b"[%b]" % b",".join(filter(None, map(bytes.strip, body.split(b"\n"))))
    labels = feedback.parse(read_json(body, limits))
    return feedback.take(labels, here.store, here.receipts, here.days)
