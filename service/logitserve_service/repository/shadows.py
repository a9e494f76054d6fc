"""The shadows of the models of a process."""

import logging
from collections.abc import Callable, Mapping

from logitserve.inference import rollout
from logitserve.inference.card import ModelCard
from logitserve_service.execution.shadow import Outcome, Shadow
from logitserve_service.repository.loaded_model import LoadedModel

logger = logging.getLogger("logitserve.models")


class Shadows:
    """At most one shadow per model, compared with its live version."""

    def __init__(self, count: Callable[[ModelCard, Outcome, int], None]) -> None:
        self._count = count
        self._running: dict[str, tuple[LoadedModel, LoadedModel, float, Shadow]] = {}

    def put(
        self,
        name: str,
        live: LoadedModel | None,
        versions: Mapping[str, LoadedModel],
        settings: rollout.Shadow | None,
    ) -> None:
        """Start, replace or end the shadow of a model."""
        model = None if settings is None else versions.get(settings.version)
        percent = 0.0 if settings is None else settings.percent
        old = self._running.get(name)
        if old is not None:
            if old[:3] == (live, model, percent):
                return
            del self._running[name]
            old[0].batcher.shadow = None
            old[3].close()
        if live is None or model is None:
            return
        if live.card.input != model.card.input:
            logger.error(
                "model %s: version %s takes other inputs than version %s, so it cannot be its "
                "shadow",
                *(name, model.card.version, live.card.version),
            )
            return

        def count(outcome: Outcome, images: int) -> None:
            self._count(model.card, outcome, images)

        shadow = Shadow(live.card, model.predictor, percent, count)
        live.batcher.shadow = shadow
        self._running[name] = live, model, percent, shadow
