"""The rule of Kubernetes' HorizontalPodAutoscaler (autoscaling/v2), for simulations.

As https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/ describes it
and kubernetes/pkg/controller/podautoscaler does it, but for rounding errors of floating point.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

SYNC_SECONDS = 15
"""--horizontal-pod-autoscaler-sync-period"""

TOLERANCE = 0.1
"""--horizontal-pod-autoscaler-tolerance, where the manifest has none."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How much may change within a period."""

    kind: str
    """`Pods` or `Percent`."""
    value: int
    period_seconds: float

    def limit(self, begun_with: int, direction: int) -> int:
        """The most, or fewest, replicas that it allows after a period begun with so many."""
        if self.kind == "Pods":
            return begun_with + direction * self.value
        percents = begun_with * (100 + direction * self.value)
        return -(-percents // 100) if direction > 0 else percents // 100


@dataclass(frozen=True, slots=True)
class Rules:
    """`behavior.scaleUp` or `behavior.scaleDown`."""

    policies: tuple[Policy, ...]
    window_seconds: float
    select: str = "Max"
    tolerance: float = TOLERANCE

    @classmethod
    def of(cls, fields: Mapping[str, Any], default: "Rules") -> "Rules":
        """From a manifest; what it does not say is the default."""
        policies = tuple(
            Policy(policy["type"], policy["value"], policy["periodSeconds"])
            for policy in fields.get("policies") or ()
        )
        return cls(
            policies or default.policies,
            fields.get("stabilizationWindowSeconds", default.window_seconds),
            fields.get("selectPolicy", default.select),
            float(fields.get("tolerance", default.tolerance)),
        )


UP = Rules((Policy("Percent", 100, 15), Policy("Pods", 4, 15)), 0)
DOWN = Rules((Policy("Percent", 100, 15),), 300)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one metric says of the pods."""

    ratio: float
    """The average over the measured pods, over the target."""
    measured: int
    """Pods that have a value."""
    unready: int = 0
    """Pods that are set aside because they are not ready yet."""
    missing: int = 0
    """Pods without a value."""
    missing_ratio: float = 1
    """What those are taken for on the way down: the target, or a whole request if it is more."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A HorizontalPodAutoscaler."""

    min_replicas: int
    max_replicas: int
    targets: Mapping[str, float] = field(default_factory=dict)
    """Metric → target: percent of the request for `cpu`, else the average value of a pod."""
    up: Rules = UP
    down: Rules = DOWN

    @classmethod
    def of_file(cls, path: Path) -> "Spec":
        """From a file of manifests, of which one is a HorizontalPodAutoscaler."""
        documents = yaml.safe_load_all(path.read_text())
        (found,) = (d["spec"] for d in documents if d["kind"] == "HorizontalPodAutoscaler")
        behavior = found.get("behavior", {})
        return cls(
            found.get("minReplicas", 1),
            found["maxReplicas"],
            dict(_targets(found["metrics"])),
            Rules.of(behavior.get("scaleUp", {}), UP),
            Rules.of(behavior.get("scaleDown", {}), DOWN),
        )


def _targets(metrics: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    for metric in metrics:
        match metric:
            case {"type": "Resource", "resource": source}:
                yield source["name"], float(source["target"]["averageUtilization"])
            case {"type": "ContainerResource", "containerResource": source}:
                yield source["name"], float(source["target"]["averageUtilization"])
            case {"type": "Pods", "pods": source}:
                yield source["metric"]["name"], quantity(source["target"]["averageValue"])
            case _:
                raise ValueError(f"a metric of type {metric['type']} is not simulated")


def quantity(text: str | float) -> float:
    """A Kubernetes quantity, such as `500m`, `2` or `1Gi`."""
    suffixes = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    for suffix, factor in suffixes.items():
        if str(text).endswith(suffix):
            return float(str(text).removesuffix(suffix)) * factor
    return float(text)


def recommended(reading: Reading, current: int, spec: Spec) -> int:
    """The replicas that one metric asks for.

    Pods that are not ready count as idle where the others ask for more; pods without a value count
    against the change: as idle on the way up, as busy on the way down.
    """
    if not reading.measured:
        return current
    total, pods = reading.ratio * reading.measured, reading.measured
    if reading.ratio < 1:
        total += reading.missing * reading.missing_ratio
        pods += reading.missing
    elif reading.ratio > 1:
        pods += reading.missing + reading.unready
    ratio = total / pods
    if 1 - spec.down.tolerance <= ratio <= 1 + spec.up.tolerance or (ratio > 1) != (
        reading.ratio > 1
    ):
        return current
    wanted = math.ceil(round(ratio * pods, 9))  # 1.1 × 10 is 11, not 12
    return max(wanted, current) if ratio > 1 else min(wanted, current)


class Autoscaler:
    """The controller's memory of one HorizontalPodAutoscaler."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._recommendations: list[tuple[float, int]] = []
        self._changes: list[tuple[float, int]] = []

    def decide(self, now: float, current: int, readings: Sequence[Reading]) -> int:
        """The replicas that there shall be.

        Args:
            now: seconds.
            current: the replicas that there shall be so far, ready or not.
            readings: of each metric; the largest recommendation counts.
        """
        if not self._recommendations:
            self._recommendations.append((now, current))
        bounded = min(max(current, self.spec.min_replicas), self.spec.max_replicas)
        if bounded != current:
            return self._changed(now, current, bounded)
        wanted = max(recommended(reading, current, self.spec) for reading in readings)
        stable = self._stabilized(now, current, wanted)
        if stable > current:
            limit = max(self._limit(now, current, self.spec.up, 1), current)
            stable = min(stable, limit, self.spec.max_replicas)
        elif stable < current:
            limit = min(self._limit(now, current, self.spec.down, -1), current)
            stable = max(stable, limit, self.spec.min_replicas)
        return self._changed(now, current, stable)

    def _stabilized(self, now: float, current: int, wanted: int) -> int:
        """Up to the lowest recommendation of a window at most, down to the highest at least."""
        up, down = self.spec.up.window_seconds, self.spec.down.window_seconds
        self._recommendations = [
            (at, count) for at, count in self._recommendations if now - at < max(up, down)
        ]
        lowest = min([wanted, *(n for at, n in self._recommendations if now - at < up)])
        highest = max([wanted, *(n for at, n in self._recommendations if now - at < down)])
        self._recommendations.append((now, wanted))
        return min(max(current, lowest), highest)

    def _limit(self, now: float, current: int, rules: Rules, direction: int) -> int:
        if rules.select == "Disabled":
            return current
        limits = [
            policy.limit(
                current - sum(by for at, by in self._changes if now - at < policy.period_seconds),
                direction,
            )
            for policy in rules.policies
        ]
        farthest = (rules.select == "Max") == (direction > 0)
        return max(limits) if farthest else min(limits)

    def _changed(self, now: float, current: int, replicas: int) -> int:
        longest = max(p.period_seconds for p in (*self.spec.up.policies, *self.spec.down.policies))
        self._changes = [(at, by) for at, by in self._changes if now - at < longest]
        if replicas != current:
            self._changes.append((now, replicas - current))
        return replicas
