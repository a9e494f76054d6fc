"""Follows the folder of models, and what was ordered by hand, while requests are answered.

The folder is looked at again and again rather than subscribed to: folders on a network and in
containers send no events when others change them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

from logitserve.inference.errors import ModelNotFoundError
from logitserve.inference.model_file import Signature
from logitserve.inference.repository import Key, Look
from logitserve_service.errors import LoadError, WorkersBehindError
from logitserve_service.repository.catalog import Catalog
from logitserve_service.repository.shared_state import Coordination, Wanted

ORDER_POLL_SECONDS = 0.1
"""Between two looks at what was ordered by hand: a file of a few hundred bytes."""

ORDER_SECONDS = 30
"""An order that not every worker has carried out by then is answered with 504; it stands."""

Files = Mapping[Key, Signature]
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

logger = logging.getLogger("logitserve.models")


def settled(accepted: Files, before: Files, now: Files) -> dict[Key, Signature]:
    """What of the folder is to be believed: a change counts once two looks agree on it.

    So a file that is being copied is left alone until it no longer grows, and one that is gone for
    the moment between two renames is not missed.

    Args:
        accepted: what was believed so far.
        before: what the last look saw.
        now: what this look sees.
    """
    believed = {
        key: now.get(key) if before.get(key) == now.get(key) else accepted.get(key)
        for key in {**accepted, **now}
    }
    return in_order({key: value for key, value in believed.items() if value is not None})


def in_order(files: Files) -> dict[Key, Signature]:
    """By name, and a model's versions oldest first."""
    return dict(sorted(files.items(), key=lambda item: (item[0][0], int(item[0][1]))))


def with_unreadable(look: Look, before: Files) -> Files:
    """What a look saw; of a model that it could not look into, what was seen before."""
    kept = {key: signature for key, signature in before.items() if key[0] in look.unreadable}
    return {**look.files, **kept}


def of_model(files: Files, name: str) -> dict[str, Signature]:
    """Version → signature of one model, in the order of the files."""
    return {key[1]: signature for key, signature in files.items() if key[0] == name}


def changed(old: Files, new: Files) -> set[str]:
    """The models whose files differ."""
    return {key[0] for key in {**old, **new} if old.get(key) != new.get(key)}


class Watcher:
    """Keeps a worker's catalog in step with the folder and with what was ordered."""

    def __init__(
        self, catalog: Catalog, coordination: Coordination, *, watch_seconds: float
    ) -> None:
        """Take over where the catalog's first look ended.

        Args:
            catalog: the live models; whoever asks it shares this event loop.
            coordination: with the other workers.
            watch_seconds: between two looks at the folder; 0 only looks when a load is ordered.
        """
        self._catalog = catalog
        self._loader = catalog.loader
        self._coordination = coordination
        self._watch_seconds = watch_seconds
        self._accepted: Files = catalog.files
        self._before: Files = catalog.files
        self._wanted = catalog.wanted
        self._trouble = ""  # with the folder, said once
        # One thread, so that models are loaded one after the other.
        self._thread = ThreadPoolExecutor(1, "models")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch as long as the context lasts; what was ordered before it began has been done."""
        await self._in_thread(self._loader.report, self._coordination.is_first)
        self._coordination.done(self._wanted.order)
        # Whoever orders something from now on waits for this worker; what they ordered while it
        # loaded is here to be read.
        await self._obey()
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            self._coordination.leave()
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def load(self, name: str) -> None:
        """Load a model in every worker, as it lies in the folder now.

        Raises:
            ModelNotFoundError: the folder has no such model.
            LoadError: its newest version, or one that is pinned, is refused; it says why.
            WorkersBehindError: not every worker has done so in time.
        """
        look = await self._in_thread(self._loader.repository.look)
        if not of_model(look.files, name):
            raise ModelNotFoundError(f"no model {name!r} in the folder of models")
        await self._order(lambda wanted: wanted.with_load(name))
        refused = self._loader.refusals(name)
        wanting = [
            f"version {version}: {refused[version]}"
            for version in self._loader.policy.chosen(name, list(of_model(self._accepted, name)))
            if version in refused
        ]
        if wanting:
            answering = ", ".join(self._catalog.models.get(name, ())) or "none"
            raise LoadError(
                f"model {name!r} is not loaded as it was asked for: {'; '.join(wanting)} "
                f"(versions that answer: {answering})"
            )

    async def unload(self, name: str) -> None:
        """Unload a model in every worker; it stays so until it is loaded by hand.

        Raises:
            ModelNotFoundError: there is no such model.
            WorkersBehindError: not every worker has done so in time.
        """
        if name not in self._catalog.folder:
            raise ModelNotFoundError(f"no model {name!r} in the folder of models")
        await self._order(lambda wanted: wanted.with_unload(name))

    async def _order(self, change: Callable[[Wanted], Wanted]) -> None:
        ordered = await self._in_thread(self._coordination.order, change)
        deadline = asyncio.get_running_loop().time() + ORDER_SECONDS
        while behind := self._coordination.pending(ordered.order):
            if asyncio.get_running_loop().time() > deadline:
                raise WorkersBehindError(behind, ORDER_SECONDS)
            await asyncio.sleep(ORDER_POLL_SECONDS / 2)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        next_look = loop.time() + self._watch_seconds
        while True:
            await asyncio.sleep(ORDER_POLL_SECONDS)
            try:
                await self._obey()
                if self._watch_seconds and loop.time() >= next_look:
                    next_look = loop.time() + self._watch_seconds
                    await self._look()
            # The next look may do better; a watcher that ended would be missed by nobody.
            except Exception:
                logger.exception("the folder of models could not be followed")

    async def _obey(self) -> None:
        """Carry out what was ordered by hand since the last time."""
        wanted = self._coordination.wanted()
        if wanted is None or wanted.order == self._wanted.order:
            return
        before, self._wanted = self._wanted, wanted
        loads = {name for name, order in wanted.loads.items() if order > before.order}
        try:
            if loads:
                await self._accept(loads)
            for name in sorted(loads):
                self._loader.forgive(name, wanted.loads[name])
            for name in sorted(loads | (set(before.unloaded) ^ set(wanted.unloaded))):
                await self._refresh(name)
        finally:
            self._coordination.done(wanted.order)

    async def _accept(self, names: set[str]) -> None:
        """Believe at once what lies in these models' folders: who orders it has written it."""
        now = (await self._in_thread(self._loader.repository.look)).files
        others = {key: value for key, value in self._accepted.items() if key[0] not in names}
        ordered = {key: value for key, value in now.items() if key[0] in names}
        self._accepted = in_order({**others, **ordered})

    async def _look(self) -> None:
        """Look at the folder, and follow what has changed."""
        try:
            look = await self._in_thread(self._loader.repository.look)
        except OSError as error:
            # A volume that is away for a while has not been emptied.
            self._say(f"the folder of models cannot be read: {error.strerror}")
            return
        self._say("; ".join(f"model {name}: {why}" for name, why in look.unreadable.items()))
        now = with_unreadable(look, self._before)
        accepted = settled(self._accepted, self._before, now)
        names = changed(self._accepted, accepted) | self._loader.unsettled()
        self._before, self._accepted = now, accepted
        for name in sorted(names):
            await self._refresh(name)

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            logger.warning("%s; what was loaded from there goes on answering", trouble)
        self._trouble = trouble

    async def _refresh(self, name: str) -> None:
        """Load what is new of a model, and let it answer in place of what was."""
        files = of_model(self._accepted, name)
        unloaded = name in self._wanted.unloaded
        if not unloaded:
            self._catalog.show_loading(name, self._loader.missing(name, files))
        before = list(self._catalog.models.get(name, {}).values())
        model = await self._in_thread(self._loader.refresh, name, files, unloaded=unloaded)
        self._catalog.put(name, model)
        await self._in_thread(self._loader.report, self._coordination.is_first)
        if before != list(model.versions.values()):
            logger.info("model %s: serving version %s", name, ", ".join(model.versions) or "none")

    async def _in_thread(
        self,
        function: Callable[Arguments, Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        call = self._thread.submit(function, *args, **kwargs)
        return await asyncio.wrap_future(call)
