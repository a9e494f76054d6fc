"""The alerts of drift, quality and the store fire for their causes, stay, and end with them."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import httpx
import pytest

from tests.deploy.drills import LONGEST_RANGE, SPEED, Bench, assert_ends, assert_fires, repeated
from tests.deploy.scraping import scraping
from tests.deploy.waiting import wait_until
from tests.e2e.process import running
from tests.service.monitoring import pictures
from tests.service.monitoring.pictures import Images
from tests.tiny_models import DIGIT_LABELS

pytestmark = pytest.mark.drill

AT_ONCE = 50
LABELED = 150


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "store.db"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[Bench]:
    """A model that is watched, and whose answers are kept."""
    models, folder = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("prometheus")
    pictures.publish(models, metrics={"accuracy": 0.99})
    options = ("--models", str(models), "--watch", "true", "--store", str(store))
    with running(*options, "--workers", "2") as server:
        target = server.url.removeprefix("http://")
        with scraping(target, folder, interval="500ms", speed=SPEED) as prometheus:
            yield Bench(server, models, prometheus)


def answers(bench: Bench, images: Images) -> list[dict[str, str]]:
    body = {"pixels": images[..., 0].tolist()}
    answer = httpx.post(f"{bench.server.url}/predict", json=body, timeout=20)
    return list(answer.raise_for_status().json()["predictions"])


def sending(draw: Callable[[int, int], Images]) -> Callable[[Bench], object]:
    """Other pictures each time: the same ones again and again are no longer normal."""
    seeds = count()
    return lambda bench: answers(bench, draw(AT_ONCE, next(seeds)))


def test_images_out_of_focus(bench: Bench) -> None:
    alert = "LogitserveDrift"
    with repeated(sending(pictures.clean), bench, threads=1):
        seen = 'logitserve_drift{feature="sharpness"} != 0'
        wait_until(lambda: bench.prometheus.values(seen), what="windows are compared")
        assert max(bench.prometheus.values("logitserve_drift_alarm")) == 0
    with repeated(sending(pictures.blurred), bench, threads=1):
        assert_fires(bench, alert, LONGEST_RANGE)
    with repeated(sending(pictures.clean), bench, threads=1):
        assert_ends(bench, alert)


def test_answers_that_are_wrong(bench: Bench) -> None:
    """Until the labels are corrected."""
    given = answers(bench, pictures.clean(LABELED, 2))

    def say(shift: int) -> None:
        """Labels beside the answers by so many."""
        labels = [
            {
                "id": each["id"],
                "label": DIGIT_LABELS[(DIGIT_LABELS.index(each["label"]) + shift) % 10],
            }
            for each in given
        ]
        answer = httpx.post(f"{bench.server.url}/feedback", json=labels, timeout=20)
        assert answer.json()["accepted" if shift else "changed"] == LABELED

    say(1)
    assert_fires(bench, "LogitserveQualityFell", LONGEST_RANGE)
    say(0)
    assert_ends(bench, "LogitserveQualityFell")


def test_a_store_that_another_program_holds(bench: Bench, store: Path) -> None:
    with repeated(sending(pictures.clean), bench, threads=1):
        with closing(sqlite3.connect(store, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert_fires(bench, "LogitserveStoreDrops", LONGEST_RANGE)
        assert_ends(bench, "LogitserveStoreDrops")
