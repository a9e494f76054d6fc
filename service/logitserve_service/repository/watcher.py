"""Watch the model repository, and carry out load and unload requests.

The folder is polled, because network and container file systems send no events for remote changes.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from logitserve.inference.errors import ModelNotFoundError, RolloutError
from logitserve.inference.naming import absent
from logitserve.inference.repository import listed
from logitserve.inference.rollout import Rollout, check, write
from logitserve_service.errors import LoadError, WorkersBehindError
from logitserve_service.periodically import Failures
from logitserve_service.repository.catalog import NO_ROLLOUT, Catalog
from logitserve_service.repository.loaded_model import ModelEntry
from logitserve_service.repository.shared_state import DesiredState
from logitserve_service.repository.snapshot import Files, Snapshot, changed, scan, settled

STATE_POLL_SECONDS = 0.1
WORKERS_SECONDS = 30  # timeout of a load or unload request for all workers

Result = TypeVar("Result")

logger = logging.getLogger("logitserve.models")


class Watcher:
    """Updates a worker's catalog from the repository and the desired state."""

    def __init__(self, catalog: Catalog, *, watch_seconds: float) -> None:
        """Scan every `watch_seconds`; 0 scans on load requests only."""
        self._catalog = catalog
        self._loader = catalog.loader
        self._shared = catalog.loader.shared
        self._watch_seconds = watch_seconds
        self._accepted: Files = catalog.files
        self._before: Files = catalog.files
        self._desired = catalog.desired
        self._rollouts = dict(catalog.rollouts)  # rollouts in the files
        self._is_asked = False
        self._warning = ""  # the last error, so that it is logged once
        self._thread = ThreadPoolExecutor(1, "models")  # a lock: one model is loaded at a time

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch while the context lasts."""
        await self._in_thread(self._report)
        self._shared.done(self._desired.generation)
        # From now on, load requests wait for this worker; earlier requests are carried out here.
        await self._follow_state()
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            self._shared.leave()
            self._thread.shutdown(wait=False, cancel_futures=True)

    def reread(self) -> None:
        """Scan soon, and accept the current files without a second scan."""
        self._is_asked = True

    async def load(self, name: str) -> None:
        """Load a model from its current files, in all workers."""
        await self._versions(name)
        await self._update(lambda state: state.with_load(name))
        entry = self._catalog.folder.get(name, ModelEntry())
        reasons = [
            f"version {version}: {entry.states[version].reason}"
            for version in self._loader.policy.chosen(name, list(entry.states))
            if entry.states[version].reason
        ]
        if reasons:
            raise LoadError(
                f"model {name!r} is not loaded as requested: {'; '.join(reasons)} "
                f"(versions that answer: {', '.join(entry.versions) or 'none'})"
            )

    async def unload(self, name: str) -> None:
        """Unload a model in all workers, until it is loaded by request."""
        if name not in self._catalog.folder:
            raise ModelNotFoundError(absent("model", name, self._catalog.folder))
        await self._update(lambda state: state.with_unload(name))

    async def _versions(self, name: str) -> list[str]:
        """Return the versions in the folder, oldest first; raises like `load`."""
        try:
            files = (await self._scan()).files
        except OSError as error:
            raise LoadError(f"the folder of models cannot be read: {error.strerror}") from error
        if name not in files:
            raise ModelNotFoundError(absent("model", name, files))
        return list(files[name])

    async def roll_out(
        self, name: str, change: Callable[[Rollout, Sequence[str]], Rollout]
    ) -> Rollout:
        """Write a rollout file, and put it in force in all workers.

        Args:
            name: name of the model.
            change: makes the rollout from the one in force and the versions in the folder.

        Raises:
            RolloutError: the file cannot be written, or the version is refused; nothing changes.
            ModelNotFoundError: there is no such model.
            LoadError: the folder of models cannot be read.
        """
        folder, versions = self._loader.repository.folder(name), await self._versions(name)
        before = self._catalog.rollouts.get(name, NO_ROLLOUT)
        rollout = change(before, versions)
        check(rollout, versions)
        await self._in_thread(partial(write, folder, rollout))
        await self._update(lambda state: state.with_load(name))
        if self._catalog.rollouts.get(name, NO_ROLLOUT) != rollout:
            await self._in_thread(partial(write, folder, before))
            state = self._catalog.folder.get(name, ModelEntry()).states.get(rollout.live or "")
            reason = "there is no such version" if state is None else state.reason
            raise RolloutError(f"version {rollout.live} does not become live: {reason}")
        return rollout

    async def _update(self, change: Callable[[DesiredState], DesiredState]) -> None:
        """Change the desired state, and wait until all workers have reached it."""
        state = await self._in_thread(partial(self._shared.update, change))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WORKERS_SECONDS
        while behind := self._shared.pending(state.generation):
            if loop.time() > deadline:
                raise WorkersBehindError(behind, WORKERS_SECONDS)
            await asyncio.sleep(STATE_POLL_SECONDS / 2)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        failures = Failures(logger, "watching the folder of models")
        next_scan = loop.time() + self._watch_seconds
        while True:
            await asyncio.sleep(STATE_POLL_SECONDS)
            try:
                await self._follow_state()
                is_due = self._watch_seconds and loop.time() >= next_scan
                if is_due or self._is_asked:
                    next_scan = loop.time() + self._watch_seconds
                    is_asked, self._is_asked = self._is_asked, False
                    await self._follow_files(is_asked=is_asked)
            except Exception as error:  # noqa: BLE001 - logged; the watcher must not stop
                failures.failed(error)
            else:
                failures.worked()

    async def _follow_state(self) -> None:
        """Carry out the load and unload requests since the last call."""
        state = self._shared.desired()
        if state is None or state.generation == self._desired.generation:
            return
        before, self._desired = self._desired, state
        loads = {name for name, number in state.loads.items() if number > before.generation}
        try:
            if loads:
                await self._accept(loads)
            for name in sorted(loads):
                self._loader.retry_rejected(name, state.loads[name])
            for name in sorted(loads | (set(before.unloaded) ^ set(state.unloaded))):
                await self._refresh(name)
        finally:
            self._shared.done(state.generation)

    async def _accept(self, names: set[str]) -> None:
        """Accept the current files of models, as load requests do not wait for a second scan."""
        now = (await self._scan()).files
        others = {name: files for name, files in self._accepted.items() if name not in names}
        self._accepted = {**others, **{name: now[name] for name in names if name in now}}

    async def _follow_files(self, *, is_asked: bool = False) -> None:
        """Scan the repository, and load changed models; `reread` skips the second scan."""
        try:
            snapshot = await self._scan()
        except OSError as error:
            # An unmounted volume must not unload the models.
            self._warn(f"the folder of models cannot be read: {error.strerror}")
            return
        unreadable = snapshot.unreadable
        problems = [*unreadable.items(), *snapshot.broken_rollouts.items()]
        self._warn("; ".join(f"model {name}: {reason}" for name, reason in problems))
        kept = {name: files for name, files in self._before.items() if name in unreadable}
        now = {**snapshot.files, **kept}
        accepted = settled(self._accepted, now if is_asked else self._before, now)
        names = changed(self._accepted, accepted) | self._loader.unsettled() | self._rolled_out()
        self._before, self._accepted = now, accepted
        for name in sorted(names):
            await self._refresh(name)

    def _warn(self, warning: str) -> None:
        if warning and warning != self._warning:
            logger.warning("%s; the loaded models are still served", warning)
        self._warning = warning

    async def _refresh(self, name: str) -> None:
        """Load new versions of a model, and serve them in place of the old ones."""
        files = self._accepted.get(name, {})
        unloaded = name in self._desired.unloaded
        if not unloaded:
            self._catalog.show_loading(name, self._loader.missing(name, files))
        before, live = self._catalog.models.get(name, {}), self._catalog.live.get(name)
        in_force = self._catalog.rollouts.get(name, NO_ROLLOUT)
        rollout = self._rollouts.get(name, NO_ROLLOUT)
        refresh = partial(self._loader.refresh, name, files, unloaded=unloaded)
        both = in_force.versions | rollout.versions
        entry = await self._in_thread(partial(refresh, named=both))
        if not unloaded and rollout.live is not None and rollout.live not in entry.versions:
            await self._in_thread(partial(self._say_refused, name, rollout.live, entry))
            rollout = in_force
        if both != rollout.versions:
            entry = await self._in_thread(partial(refresh, named=rollout.versions))
        self._catalog.put(name, entry, rollout)
        await self._in_thread(self._loader.report)
        if rollout != in_force:
            await self._in_thread(partial(self._shared.roll_out, name, rollout))
        now = self._catalog.live.get(name)
        if before != entry.versions or live is not now:
            loaded = ", ".join(entry.versions) or "none"
            named = f"; version {now.card.version} is live" if rollout.live and now else ""
            logger.info("model %s: serving version %s%s", name, loaded, named)

    def _rolled_out(self) -> set[str]:
        """Return the models whose rollouts are not in force."""
        in_force = self._catalog.rollouts
        known = self._rollouts.items()
        return {name for name, rollout in known if rollout != in_force.get(name, NO_ROLLOUT)}

    def _say_refused(self, name: str, version: str, entry: ModelEntry) -> None:
        """Log why a version does not become live, unless another worker has logged it."""
        state = entry.states.get(version)
        reason = "there is no such version" if state is None else state.reason
        problem = f"model {name}: version {version} does not become live: {reason}"
        if self._shared.first_to_log(problem):
            logger.error("%s; the live version is still served", problem)

    async def _scan(self) -> Snapshot:
        snapshot = await self._in_thread(partial(scan, self._loader.repository))
        broken = [name for name in snapshot.broken_rollouts if name in self._rollouts]
        self._rollouts = {**snapshot.rollouts, **{name: self._rollouts[name] for name in broken}}
        if snapshot.passed_over != self._catalog.passed_over:
            self._catalog.passed_over = snapshot.passed_over
            await self._in_thread(self._report)
        return snapshot

    def _report(self) -> None:
        """Log refusals and ignored files, unless another worker has logged them."""
        self._loader.report()
        text = listed(self._catalog.passed_over)
        if text and self._shared.first_to_log(text):
            logger.warning("%s", text)

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
