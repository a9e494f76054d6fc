"""The simulated day: what must hold of it, and that what is shipped is what is simulated."""

import re
from dataclasses import replace
from functools import cache

import pytest
import yaml

from benchmarks.autoscaled_day import CPU, HOLD, QUEUE, RAMP, SPIKE, Day, World, simulate
from benchmarks.autoscaling import SHIPPED, alone, shipped_world
from benchmarks.hpa import Spec
from logitserve_service.config.settings import Settings

AROUND = range(SPIKE - 300, SPIKE + RAMP + HOLD)


@cache
def shipped() -> Spec:
    return Spec.of_file(SHIPPED / "autoscaler.yaml")


def around(spec: Spec, **changed: int) -> tuple[World, Day]:
    world = replace(shipped_world(), seconds=AROUND, **changed)
    return world, simulate(spec, world)


@pytest.mark.parametrize("metric", [CPU, QUEUE, "both"])
def test_every_request_is_served_or_refused_and_only_beyond_capacity(metric: str) -> None:
    world, day = around(shipped() if metric == "both" else alone(shipped(), metric))
    backlog = 0.0
    for demand, capacity, refused in zip(day.demand, day.capacity, day.refused, strict=True):
        waiting = capacity / world.replica * world.waiting
        assert refused == pytest.approx(max(demand + backlog - capacity - waiting, 0), abs=1e-3)
        backlog = min(max(demand + backlog - capacity, 0), waiting)
    assert sum(day.refused) > 0
    assert shipped().min_replicas <= min(day.replicas)
    assert max(day.replicas) <= shipped().max_replicas


def test_a_usual_evening_refuses_nothing_and_a_spike_less_with_headroom() -> None:
    assert sum(around(shipped(), factor=1)[1].refused) == 0
    tight = sum(around(shipped())[1].refused)
    roomy = replace(shipped(), targets={**shipped().targets, CPU: 40})
    assert 0 < sum(around(roomy)[1].refused) < tight
    assert sum(around(replace(shipped(), min_replicas=12))[1].refused) == 0


def test_pods_answer_no_sooner_than_they_have_started() -> None:
    world, day = around(shipped(), start_seconds=60)
    grown = next(n for n, count in enumerate(day.replicas) if count > day.replicas[0])
    assert set(day.capacity[: grown + 60]) == {day.capacity[0]}
    assert day.capacity[grown + 60] == pytest.approx(day.replicas[grown] * world.replica)


def test_the_same_every_time() -> None:
    assert around(shipped())[1] == around(shipped())[1]
    assert around(shipped())[1].demand != around(shipped(), seed=1)[1].demand


def test_what_is_shipped_is_what_is_simulated() -> None:
    assert set(shipped().targets) == {CPU, QUEUE}
    deployment = yaml.safe_load((SHIPPED / "deployment.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    # Or a busy pod's utilization would not be 100 %.
    resources = container["resources"]
    assert resources["requests"]["cpu"] == resources["limits"]["cpu"]
    connections = Settings.model_fields["max_connections"].default
    assert shipped_world().waiting == int(resources["limits"]["cpu"]) * connections
    adapter = (SHIPPED.parents[1] / "prometheus-adapter.yaml").read_text()
    (minutes,) = re.findall(r"avg_over_time\([^\[]*\[(\d+)m\]", adapter)
    world = shipped_world()
    assert world.queue_scrapes * world.scrape_seconds == 60 * int(minutes)
    (endpoint,) = yaml.safe_load((SHIPPED / "service-monitor.yaml").read_text())["spec"][
        "endpoints"
    ]
    assert endpoint["interval"] == f"{world.scrape_seconds}s"
