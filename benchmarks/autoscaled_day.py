"""A simulated day of traffic with a spike, and an autoscaler that follows it.

Second by second: callers that do not wait for each other, replicas that share the load evenly,
pods that take a while to start, metrics that are a while old. Seeded: the same every time.
"""

import math
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

from benchmarks.hpa import SYNC_SECONDS, Autoscaler, Reading, Spec

CPU, QUEUE = "cpu", "logitserve_queue_pictures"

DAY = 86_400
SPIKE = 20 * 3600
"""When it begins: in the evening's peak."""
RAMP, HOLD, FALL = 60, 900, 900
"""Seconds in which the spike grows, stays, and goes."""


def shape(second: float) -> float:
    """Low at 4 o'clock, higher at noon, highest shortly before 20."""
    hour = second / 3600
    night_and_day = 0.55 - 0.3 * math.cos((hour - 4) / 24 * 2 * math.pi)
    evening = 0.35 * math.exp(-(((hour - 20) / 2.5) ** 2))
    noon = 0.15 * math.exp(-(((hour - 12) / 2) ** 2))
    return night_and_day + evening + noon


HIGHEST = max(shape(second) for second in range(0, DAY, 60))


def usual(second: float) -> float:
    """Requests/s over those of the day's peak."""
    return shape(second) / HIGHEST


def spike(second: float, factor: float) -> float:
    """By how much a spike multiplies the traffic."""
    since = second - SPIKE
    share = min(since / RAMP, 1, 1 - (since - RAMP - HOLD) / FALL)
    return 1 + (factor - 1) * max(share, 0)


@cache
def noise(seed: int) -> tuple[float, ...]:
    """A standard normal number for each second of the day."""
    drawn = random.Random(seed)
    return tuple(drawn.gauss(0, 1) for _ in range(DAY))


@dataclass(frozen=True, slots=True)
class World:
    """What the autoscaler does not decide."""

    replica: float
    """Requests/s that one replica can."""
    peak: float
    """Requests/s at the peak of a usual day."""
    factor: float = 5
    """Of the spike."""
    waiting: int = 2 * 1000
    """Requests that may be at one replica; the next is refused (workers × `max_connections`)."""
    running: int = 2 * 64
    """Of those, how many do not wait but run (workers × `MAX_BATCH`)."""
    start_seconds: int = 20
    """From the decision until the pod answers."""
    scrape_seconds: int = 15
    """Between two looks at a pod's metrics; CPU is averaged over as long."""
    queue_scrapes: int = 4
    """So many looks at the queue are averaged: a minute, as prometheus-adapter.yaml says."""
    scrape_phase: int = 8
    """When the looks are, after the autoscaler's own."""
    seconds: range = range(DAY)
    """Of the day, that are simulated."""
    seed: int = 0

    def demand(self) -> Iterator[float]:
        """Requests of each of these seconds."""
        for second in self.seconds:
            mean = self.peak * usual(second) * spike(second, self.factor)
            # Poisson's distribution, at such numbers.
            yield max(mean + math.sqrt(mean) * noise(self.seed)[second], 0)


@dataclass(slots=True)
class Day:
    """What happened, by the second."""

    first: int
    """The second of the day that it begins with."""
    demand: list[float] = field(default_factory=list)
    capacity: list[float] = field(default_factory=list)
    replicas: list[int] = field(default_factory=list)
    """That there shall be, ready or not."""
    refused: list[float] = field(default_factory=list)
    waited_ms: list[float] = field(default_factory=list)
    """By a request that came in this second."""

    def summary(self) -> dict[str, float]:
        """What to compare days by."""
        surge = slice(SPIKE - self.first, SPIKE - self.first + RAMP + HOLD)
        changes = [b - a for a, b in pairwise(self.replicas) if a != b]
        late = [second for second, refused in enumerate(self.refused[surge], 1) if refused]
        return {
            "refused": sum(self.refused),
            "refused in spike": sum(self.refused[surge]) / sum(self.demand[surge]),
            "last refusal": late[-1] if late else 0,
            "longest wait": max(self.waited_ms),
            "most replicas": max(self.replicas),
            "replica hours": sum(self.replicas) / 3600,
            "reversals": sum(a * b < 0 for a, b in pairwise(changes)),
        }


class Pods:
    """When each pod was, or will be, ready; the oldest first."""

    def __init__(self, count: int) -> None:
        self._ready_at = [-math.inf] * count

    def __len__(self) -> int:
        return len(self._ready_at)

    def scale(self, count: int, ready_at: float) -> None:
        """Start pods, or end the youngest, which are those that are not ready first."""
        del self._ready_at[count:]
        self._ready_at += [ready_at] * (count - len(self._ready_at))

    def ready(self, by: float) -> int:
        """How many were ready at a time."""
        return sum(at <= by for at in self._ready_at)


def simulate(spec: Spec, world: World) -> Day:
    """Let an autoscaler follow a day."""
    day = Day(world.seconds.start)
    scaler = Autoscaler(spec)
    pods = Pods(spec.min_replicas)
    pods.scale(max(spec.min_replicas, _begin_with(spec, world)), -math.inf)
    backlog = 0.0
    busy: deque[float] = deque(maxlen=world.scrape_seconds)
    queued: deque[float] = deque(maxlen=world.queue_scrapes)
    measured: dict[str, float] = {}
    looked_at = world.seconds.start
    for second, demand in zip(world.seconds, world.demand(), strict=True):
        ready = pods.ready(second)
        capacity = ready * world.replica
        served = min(demand + backlog, capacity)
        left = demand + backlog - served
        backlog = min(left, ready * world.waiting)
        busy.append(100 * served / capacity)
        day.demand.append(demand)
        day.capacity.append(capacity)
        day.refused.append(left - backlog)
        day.waited_ms.append(1000 * backlog / capacity)
        if second % world.scrape_seconds == world.scrape_phase:
            looked_at = second
            measured[CPU] = sum(busy) / len(busy)
            queued.append(max(backlog / ready - world.running, 0))
            measured[QUEUE] = sum(queued) / len(queued)
        if second % SYNC_SECONDS == 0 and measured:
            readings = _readings(spec, world, pods, measured, looked_at)
            pods.scale(
                scaler.decide(second, len(pods), list(readings)), second + world.start_seconds
            )
        day.replicas.append(len(pods))
    return day


def _begin_with(spec: Spec, world: World) -> int:
    """Replicas that have run before: as many as the CPU's target asks for."""
    share = spec.targets.get(CPU, 100) / 100
    needed = world.peak * usual(world.seconds.start) / world.replica
    return min(math.ceil(needed / share), spec.max_replicas)


def _readings(
    spec: Spec, world: World, pods: Pods, measured: dict[str, float], looked_at: int
) -> Iterator[Reading]:
    """What the autoscaler is told of each metric that it has a target for."""
    throughout = max(pods.ready(looked_at - world.scrape_seconds), 1)
    seen = max(pods.ready(looked_at), 1)
    for metric, target in spec.targets.items():
        ratio = measured[metric] / target
        if metric == CPU:  # a value from before the pod was ready sets the pod aside
            yield Reading(ratio, throughout, unready=len(pods) - throughout)
        else:
            yield Reading(ratio, seen, missing=len(pods) - seen)
