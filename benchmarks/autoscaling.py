"""The shipped autoscaler on a day with a spike: `python -m benchmarks.autoscaling`, a minute.

The HorizontalPodAutoscaler of `deploy/kubernetes/overlays/production` follows a simulated day
(`autoscaled_day.py`). What a replica can is what `make bench` and `make bench-sweeps` measured for
`docs/scale.md`. Prints tables; writes them and the chart to `results/autoscaling.{md,png}`.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks import autoscaling_chart
from benchmarks.autoscaled_day import CPU, QUEUE, SPIKE, Day, World, simulate
from benchmarks.hpa import Policy, Spec
from benchmarks.markdown import Row, percent, table
from logitserve_service.config.settings import Settings
from logitserve_service.execution.job import MAX_BATCH

HERE = Path(__file__).parent
RESULTS = HERE / "results"
SHIPPED = HERE.parent / "deploy/kubernetes/overlays/production"

PEAK = 60_000
"""Requests/s at the peak of a usual day, of which five times fit into the shipped maximum."""
MILLION = 1_000_000
FEWEST, MOST = 10, 250
"""Replicas for that."""
STARTS = (10, 20, 60, 120)
FACTORS = (1, 2, 3, 5)
CPU_TARGETS = range(65, 0, -5)
FAR = 1000
"""Replicas where no maximum shall be in the way."""


def alone(spec: Spec, metric: str) -> Spec:
    """The autoscaler with one of its metrics."""
    return replace(spec, targets={metric: spec.targets[metric]})


def shipped_world() -> World:
    """A shipped pod: what was measured of one worker, times its workers."""
    deployment = yaml.safe_load((SHIPPED / "deployment.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    workers = int(next(e["value"] for e in container["env"] if e["name"] == "LOGITSERVE_WORKERS"))
    rates = json.loads((RESULTS / "scale.json").read_text())["rates"]
    one = rates["28×28 PNG in MNIST's form"]
    counts = json.loads((RESULTS / "workers.json").read_text())["rows"]
    gain = next(row["ratio"] for row in counts if row["workers = cores"] == workers)
    connections: int = Settings.model_fields["max_connections"].default
    return World(
        replica=one * gain,
        peak=PEAK,
        waiting=workers * connections,
        running=workers * MAX_BATCH,
    )


def by_rule(days: Mapping[str, Day]) -> list[Row]:
    """What each rule makes of the day."""
    rows = []
    for name, day in days.items():
        found = day.summary()
        rows.append(
            {
                "scales on": name,
                "of the spike refused": percent(found["refused in spike"]),
                "the last after": f"{found['last refusal']:.0f} s",
                "longest wait": f"{found['longest wait']:.0f} ms",
                "most replicas": f"{found['most replicas']:.0f}",
                "replica hours": f"{found['replica hours']:,.0f}",
                "changes of direction": f"{found['reversals']:.0f}",
            }
        )
    return rows


def by_factor(spec: Spec, world: World) -> list[Row]:
    """How much of smaller and larger spikes is refused, by how long a pod takes to start."""
    return [
        {
            "in a minute": f"{factor}×",
            **{
                f"start {start} s": percent(
                    summary(spec, world, factor=factor, start_seconds=start)["refused in spike"]
                )
                for start in STARTS
            },
        }
        for factor in FACTORS
    ]


def for_none_refused(spec: Spec, world: World) -> list[Row]:
    """The least that refuses nothing: more replicas, or more headroom; and what that costs."""
    free = replace(spec, max_replicas=FAR)
    rows = []
    for start in STARTS:
        count = next(
            count
            for count in range(spec.min_replicas, FAR)
            if not summary(replace(free, min_replicas=count), world, start_seconds=start)["refused"]
        )
        roomy = next(
            changed
            for target in CPU_TARGETS
            for changed in [replace(free, targets={**spec.targets, CPU: target})]
            if not summary(changed, world, start_seconds=start)["refused"]
        )
        usual = summary(roomy, world, factor=1)
        rows.append(
            {
                "pod starts in": f"{start} s",
                "`minReplicas`": str(count),
                "replica hours of a usual day": f"{24 * count}",
                "or `averageUtilization`": f"{roomy.targets[CPU]:.0f}",
                "replica hours then": f"{usual['replica hours']:.0f}",
            }
        )
    return rows


def summary(spec: Spec, world: World, **changed: Any) -> dict[str, float]:
    """Of a day in a world that is changed so."""
    return simulate(spec, replace(world, **changed)).summary()


def main() -> None:
    spec = Spec.of_file(SHIPPED / "autoscaler.yaml")
    world = shipped_world()
    near_days = {
        "CPU": simulate(alone(spec, CPU), world),
        "queue": simulate(alone(spec, QUEUE), world),
        "both, as shipped": simulate(spec, world),
    }
    large, million = replace(world, peak=MILLION), f"both, {MILLION:,}/s, {FEWEST} to {MOST} pods"
    roomy = replace(spec, min_replicas=FEWEST, max_replicas=MOST)
    gradual = replace(roomy, down=replace(spec.down, policies=(Policy("Percent", 10, 60),)))
    far_days = {
        million: simulate(roomy, large),
        f"{million}, down by 10 % a minute": simulate(gradual, large),
    }
    rules = by_rule({**near_days, **far_days})
    text = "\n".join(
        (table(rules), table(by_factor(spec, world)), table(for_none_refused(spec, world)))
    )
    print(text)
    (RESULTS / "autoscaling.md").write_text(text)
    path = RESULTS / "autoscaling.png"
    autoscaling_chart.draw(
        near_days, far_days[million], replica=world.replica, spike=SPIKE, path=path
    )


if __name__ == "__main__":
    main()
