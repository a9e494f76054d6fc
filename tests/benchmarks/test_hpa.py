"""The autoscaler's rule beside worked examples of others, and what always holds."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.hpa import (
    DOWN,
    SYNC_SECONDS,
    TOLERANCE,
    UP,
    Autoscaler,
    Policy,
    Reading,
    Rules,
    Spec,
    quantity,
    recommended,
)

FREE = Spec(1, 10_000)
DOUBLING = Rules((Policy("Percent", 100, 15),), 0)
AT_ONCE = Rules((Policy("Percent", 10_000, 15),), 0, tolerance=0)
DOWN_AT_ONCE = Rules((Policy("Percent", 100, 15),), 0, tolerance=0)


def asked(current: int, wanted: int) -> list[Reading]:
    """A metric that asks for so many replicas."""
    return [Reading(wanted / current, current)]


def course(spec: Spec, wanted: list[int], *, begin: int, every: float) -> list[int]:
    """The replicas after each look, while a metric asks for so many."""
    scaler = Autoscaler(spec)
    replicas = [begin]
    for look, count in enumerate(wanted):
        replicas.append(scaler.decide(look * every, replicas[-1], asked(replicas[-1], count)))
    return replicas


@pytest.mark.parametrize(
    ("current", "reading", "replicas"),
    [
        # "Algorithm details" of the documentation: 200m of 100m doubles, 50m of 100m halves.
        (3, Reading(200 / 100, 3), 6),
        (6, Reading(50 / 100, 6), 3),
        # Announcement of the configurable tolerance (Kubernetes 1.33): 50 × 90/75.
        (50, Reading(90 / 75, 50), 60),
        # replica_calculator_test.go: ScaleUp, ScaleUpUnreadyLessScale, ScaleUpUnreadyNoScale,
        # MissingMetricsUnreadyScaleUp, MissingMetricsUnreadyScaleDown.
        (3, Reading((0.3 + 0.5 + 0.7) / 3 / 0.3, 3), 5),
        (3, Reading((0.5 + 0.7) / 2 / 0.3, 2, unready=1), 4),
        (3, Reading(0.4 / 0.3, 1, unready=2), 3),
        (3, Reading(2.0 / 0.5, 1, unready=1, missing=1), 4),
        (4, Reading(0.1 / 0.5, 2, unready=1, missing=1, missing_ratio=1 / 0.5), 3),
    ],
)
def test_one_metric_asks_for_what_kubernetes_says(
    current: int, reading: Reading, replicas: int
) -> None:
    assert recommended(reading, current, FREE) == replicas


def test_tolerance_of_its_own_as_documented() -> None:
    """100 MiB with a tolerance of 5 % on the way up: more than 105 MiB scale."""
    spec = replace(FREE, up=replace(UP, tolerance=0.05))
    assert recommended(Reading(105 / 100, 40), 40, spec) == 40
    assert recommended(Reading(106 / 100, 40), 40, spec) == 43
    assert recommended(Reading(91 / 100, 40), 40, spec) == 40


def test_policies_as_documented() -> None:
    """From 80 to 10 by 10 %, rounded up, or 4 a minute, whichever is more."""
    down = Rules((Policy("Pods", 4, 60), Policy("Percent", 10, 60)), 0, tolerance=0)
    replicas = course(replace(FREE, down=down), [10] * 20, begin=80, every=60)
    assert replicas[:4] == [80, 72, 64, 57]
    below = [count for count in replicas if count <= 40]
    assert [a - b for a, b in pairwise(below)][:5] == [4] * 5
    assert replicas[-1] == 10


def test_the_smallest_policy_as_documented() -> None:
    down = Rules((Policy("Pods", 5, 60), Policy("Percent", 10, 60)), 0, "Min", tolerance=0)
    assert course(replace(FREE, down=down), [1, 1], begin=80, every=60) == [80, 75, 70]
    assert course(replace(FREE, down=down), [1, 1], begin=30, every=60) == [30, 27, 24]


def test_disabled_as_documented() -> None:
    spec = replace(FREE, down=replace(DOWN_AT_ONCE, select="Disabled"))
    assert course(spec, [1, 20, 1], begin=10, every=15) == [10, 10, 20, 20]


def test_stories_of_the_proposal() -> None:
    """KEP-853, stories 1, 3, 5 and 6."""
    fast = replace(FREE, up=Rules((Policy("Percent", 900, 60),), 0))
    assert course(fast, [5000] * 3, begin=1, every=60) == [1, 10, 100, 1000]
    slow = replace(FREE, up=Rules((Policy("Pods", 1, 300),), 0))
    assert course(slow, [50] * 11, begin=1, every=100) == [1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5]
    settled_down = replace(FREE, down=Rules((Policy("Pods", 5, 60),), 600, tolerance=0))
    wanted = [10, 9, 8, 9, 9, 8, 9, 8, 9, 8, 7]
    assert course(settled_down, wanted, begin=10, every=60) == [10] * 11 + [9]
    settled_up = replace(FREE, up=Rules((Policy("Pods", 20, 60),), 300, tolerance=0))
    # Six looks within the window, as in the story: a little more often than once a minute.
    assert course(settled_up, [2, 3, 19, 10, 3, 4, 7], begin=2, every=59) == [2] * 7 + [3]


def test_defaults_double_or_add_four_and_wait_five_minutes_to_go_down() -> None:
    assert course(FREE, [100] * 5, begin=1, every=15) == [1, 5, 10, 20, 40, 80]
    down = course(FREE, [4] + [2] * 21, begin=4, every=15)
    assert down == [4] * 21 + [2, 2]


def test_largest_metric_decides() -> None:
    readings = [Reading(0.5, 4), Reading(1.5, 4), Reading(1.0, 4)]
    assert Autoscaler(FREE).decide(0, 4, readings) == 6


def test_quantities() -> None:
    assert [quantity(text) for text in ("32", "500m", "2k", "1Ki", 3)] == [32, 0.5, 2000, 1024, 3]


def test_manifest_is_read_with_defaults_where_it_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "autoscaler.yaml"
    path.write_text("""
kind: HorizontalPodAutoscaler
spec:
  maxReplicas: 9
  metrics:
    - type: Resource
      resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}
    - type: Pods
      pods: {metric: {name: waiting}, target: {type: AverageValue, averageValue: 500m}}
  behavior:
    scaleUp:
      policies: [{type: Percent, value: 100, periodSeconds: 15}]
""")
    expected = Spec(1, 9, {"cpu": 70, "waiting": 0.5}, DOUBLING, DOWN)
    assert Spec.of_file(path) == expected


ratios = st.floats(0, 20)
policies = st.builds(
    Policy, st.sampled_from(["Pods", "Percent"]), st.integers(1, 200), st.sampled_from([15, 60])
)


def any_rules(windows: list[int]) -> st.SearchStrategy[Rules]:
    return st.builds(
        Rules,
        st.lists(policies, min_size=1, max_size=3).map(tuple),
        st.sampled_from(windows),
        st.sampled_from(["Max", "Min", "Disabled"]),
    )


specs = st.builds(
    lambda least, more, up, down: Spec(least, least + more, {}, up, down),
    st.integers(1, 20),
    st.integers(0, 100),
    any_rules([0, 60]),
    any_rules([0, 60, 300]),
)


@given(specs, st.lists(ratios, min_size=1, max_size=40), st.integers(1, 150))
def test_never_below_the_minimum_nor_above_the_maximum(
    spec: Spec, seen: list[float], begin: int
) -> None:
    scaler, replicas = Autoscaler(spec), begin
    for look, ratio in enumerate(seen):
        replicas = scaler.decide(look * SYNC_SECONDS, replicas, [Reading(ratio, replicas)])
        assert spec.min_replicas <= replicas <= spec.max_replicas


@given(
    st.lists(st.floats(1 - 0.99 * TOLERANCE, 1 + 0.99 * TOLERANCE), min_size=1, max_size=60),
    st.integers(1, 100),
)
def test_no_change_within_the_tolerance(seen: list[float], begin: int) -> None:
    scaler = Autoscaler(FREE)
    for look, ratio in enumerate(seen):
        assert scaler.decide(look * SYNC_SECONDS, begin, [Reading(ratio, begin)]) == begin


@given(st.lists(st.integers(1, 60), min_size=1, max_size=60), st.sampled_from([15, 60, 300]))
def test_goes_down_to_the_highest_recommendation_of_the_window(
    wanted: list[int], window: int
) -> None:
    """With no limit of speed, replicas are the rolling maximum of what was asked for."""
    spec = replace(FREE, up=AT_ONCE, down=replace(DOWN_AT_ONCE, window_seconds=window))
    looks = window // SYNC_SECONDS
    replicas = course(spec, wanted, begin=wanted[0], every=SYNC_SECONDS)[1:]
    assert replicas == [
        max(wanted[max(look - looks + 1, 0) : look + 1]) for look in range(len(wanted))
    ]


@given(st.lists(st.integers(1, 5000), min_size=5, max_size=60), st.integers(1, 50))
def test_speed_is_that_of_the_policies(wanted: list[int], begin: int) -> None:
    """In no minute does it change by more than they allow."""
    up, down = Rules((Policy("Percent", 50, 60),), 0), Rules((Policy("Pods", 2, 60),), 0)
    spec = Spec(1, 10_000, {}, up, down)
    rising = sorted(max(count, begin) for count in wanted)
    upwards = course(spec, rising, begin=begin, every=SYNC_SECONDS)
    for before, after in zip(upwards, upwards[4:], strict=False):
        assert after <= -(-before * 3 // 2)
    downwards = course(spec, sorted(wanted, reverse=True), begin=6000, every=SYNC_SECONDS)
    for before, after in zip(downwards, downwards[4:], strict=False):
        assert before - after <= 2


@given(st.integers(1, 500), st.fractions(0, 10, max_denominator=1000))
def test_recommendation_is_the_formula(current: int, ratio: Fraction) -> None:
    found = recommended(Reading(float(ratio), current), current, FREE)
    exact = -(-current * ratio.numerator // ratio.denominator)
    outside = abs(ratio - 1) > Fraction(1, 10)
    assert found == (exact if outside else current)
