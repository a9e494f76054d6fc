"""Windows of several sizes: what alarms, when it ends, and what is normal."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import orjson
import pytest

from logitserve.inference.card import FeatureName, Histogram, Reference
from logitserve_service.monitoring.windows import (
    BASELINE,
    WINDOW_SIZES,
    DriftTests,
    Rule,
    WindowState,
)
from tests import tiny_models

RULE = Rule(false_alarm_every=1_000_000, floor=0.02)
EVEN = [0.1] * 10
BRIGHT = [0.05] * 5 + [0.15] * 5
UNSURE = [0.3, 0.7]
SURE = [0.01, 0.99]

Counts = npt.NDArray[np.int64]


@pytest.fixture
def drift_tests() -> DriftTests:
    matrix = tiny_models.weights(tiny_models.SPEC, 10, 0)
    card = tiny_models.card_for(matrix)
    normal = Reference(
        pictures=5000,
        features={
            "classes": Histogram(edges=tuple(range(1, 10)), counts=(500,) * 10),
            "brightness": Histogram(edges=tuple(range(10, 100, 10)), counts=(500,) * 10),
            "known": Histogram(edges=(1,), counts=(50, 4950)),
        },
    )
    return DriftTests(card, normal, RULE)


class Stream:
    """Pictures that come 50 at a time."""

    def __init__(self, drift_tests: DriftTests, seed: int = 0) -> None:
        self.drift_tests = drift_tests
        self.generator = np.random.default_rng(seed)
        self.totals: Counts = np.zeros(drift_tests.bins.width, np.int64)
        self.state = WindowState.at(self.totals, 0)
        self.seen = 0

    def come(
        self,
        count: int,
        *,
        classes: Sequence[float] = EVEN,
        brightness: Sequence[float] = EVEN,
        known: Sequence[float] = SURE,
        at_once: int = 50,
    ) -> list[tuple[int, FeatureName, str]]:
        """Picture, feature and sentence of each alarm that begins."""
        begun = []
        for _ in range(count // at_once):
            drawn = [
                self.generator.multinomial(at_once, each) for each in (classes, brightness, known)
            ]
            self.totals = self.totals + np.concatenate(drawn)
            self.seen += at_once
            for name, sentence in self.drift_tests.run(self.state, self.totals, self.seen):
                begun.append((self.seen, name, sentence))
            # What the workers share is JSON.
            self.state = WindowState(**orjson.loads(orjson.dumps(asdict(self.state))))
        return begun


def test_a_change_gives_one_alarm_that_ends_with_it(drift_tests: DriftTests) -> None:
    stream = Stream(drift_tests)
    assert stream.come(2000) == []
    ((seen, name, sentence),) = stream.come(3000, brightness=BRIGHT)
    assert seen <= 2400
    assert name == "brightness"
    assert sentence.startswith("brightness rose: ")
    assert sentence.endswith("at or above 50, was 50 %")
    alarm = stream.state.alarms["brightness"]
    assert seen - WINDOW_SIZES[alarm["level"]] - 50 <= alarm["since"] < seen
    assert stream.come(1000) == []
    assert stream.state.alarms == {}
    assert stream.come(20_000) == []  # no longer window gives it again


def test_the_sentences_of_classes_and_of_what_is_not_known(drift_tests: DriftTests) -> None:
    stream = Stream(drift_tests)
    zeros = [0.46] + [0.06] * 9
    begun = {name: text for _, name, text in stream.come(400, classes=zeros, known=UNSURE)}
    assert set(begun) == {"classes", "known"}
    assert begun["classes"].startswith("'0' rose: 4")
    assert begun["classes"].endswith("% of the pictures, was 10 %")
    assert begun["known"].startswith("'unknown' rose: ")
    assert begun["known"].endswith("was 1.0 %")


def test_a_small_effect_is_no_alarm_however_many_pictures_show_it(drift_tests: DriftTests) -> None:
    little = [0.09] * 5 + [0.11] * 5  # PSI 0.01
    stream = Stream(drift_tests)
    assert stream.come(60_000, brightness=little, at_once=500) == []
    _, p, psi = stream.state.tests["brightness"][-1] or (0, 1, 1)
    assert p < 1e-3
    assert psi == pytest.approx(0.01, abs=0.005)


def test_clean_streams_are_quiet(drift_tests: DriftTests) -> None:
    alarms = [alarm for seed in range(10) for alarm in Stream(drift_tests, seed).come(20_000)]
    assert len(alarms) <= 2  # 0.2 are expected


def test_pictures_that_come_many_at_a_time_are_compared_once(drift_tests: DriftTests) -> None:
    stream = Stream(drift_tests)
    stream.come(5000, at_once=5000)
    tests = [test for test in stream.state.tests["classes"] if test is not None]
    assert [n for n, _, _ in tests] == [5000] * 6
    assert len(set(map(tuple, tests))) == 1


def test_a_baseline_is_normal_until_the_card_is_again(drift_tests: DriftTests) -> None:
    stream = Stream(drift_tests)
    assert len(stream.come(BASELINE - 200, brightness=BRIGHT)) == 1
    assert drift_tests.accept(stream.state, stream.totals, 0) is None
    stream.come(200, brightness=BRIGHT)
    accepted = drift_tests.accept(stream.state, stream.totals, 7)
    assert accepted is not None
    assert accepted.alarms == {}
    assert accepted.began == [7] * len(WINDOW_SIZES)
    assert all(1 <= each < 2 for each in accepted.dispersion.values())
    stream.state = accepted
    assert stream.come(5000, brightness=BRIGHT) == []
    assert {name for _, name, _ in stream.come(1000)} == {"brightness"}

    back = drift_tests.accept(stream.state, stream.totals, 0, live=False)
    assert back is not None
    stream.state = back
    assert stream.come(3000) == []
    assert len(stream.come(1000, brightness=BRIGHT)) == 1


def test_neighbors_that_are_alike_raise_the_dispersion_and_no_alarm(
    drift_tests: DriftTests,
) -> None:
    """Each writer sends 25 pictures, which are all bright or all dark."""
    stream = Stream(drift_tests)

    def writers(count: int) -> list[tuple[int, FeatureName, str]]:
        begun = []
        for _ in range(count // 25):
            middle = stream.generator.integers(10)
            one = np.full(10, 0.04)
            one[middle] = 0.64
            begun += stream.come(25, brightness=one.tolist(), at_once=25)
        return begun

    assert writers(BASELINE)
    accepted = drift_tests.accept(stream.state, stream.totals, 0)
    assert accepted is not None
    assert accepted.dispersion["brightness"] > 5
    assert accepted.dispersion["classes"] < 2
    stream.state = accepted
    assert len(writers(6000)) <= 1
